"""Every architecture against transformers: randomly drawn models of its classes give the same in ours, and back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from bertwright.errors import ModelError
from bertwright.hub.encoder_folder import WORDS, load_model, read_model, save_model
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.task_folder import read_fine_tuned, save_fine_tuned
from bertwright.model.bert_family import Electra
from bertwright.model.encoder import Encoder, HeadType
from bertwright.types import LabelledBatch

TOLERANCE = 1e-5
VOCAB, LONGEST = 97, 40
SPECIAL = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")
SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": LONGEST,
}


@dataclass(frozen=True)
class Family:
    """An architecture as transformers has it.

    name      what its classes begin with
    settings  of the config, beside SHAPE
    pad       the padding token
    types     token types its rows have
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    pad: int = 0
    types: int = 1

    def config(self) -> transformers.PreTrainedConfig:
        """Return the settings of a small model."""
        values = {**SHAPE, "pad_token_id": self.pad, **self.settings}
        return getattr(transformers, f"{self.name}Config")(**values)

    def model(self, kind: str, **more: Any) -> transformers.PreTrainedModel:
        """Return a model of a class, its weights moved away from their first values."""
        torch.manual_seed(3)
        config = self.config()
        config.update({"_attn_implementation": "eager", **more})
        model = getattr(transformers, f"{self.name}{kind}")(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        return model


DISTANCES: dict[str, Any] = {
    "relative_attention": True,
    "position_biased_input": False,
    "pos_att_type": "p2c|c2p",
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_buckets": 8,
}
FAMILIES = {
    "bert": Family("Bert", {"hidden_act": "gelu_new", "layer_norm_eps": 1e-6}, types=2),
    "modernbert": Family("ModernBert", {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3}),
    "roberta": Family("Roberta", {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}, pad=1),
    "roberta, relu": Family("Roberta", {"max_position_embeddings": LONGEST + 1, "hidden_act": "relu"}),
    "xlm-roberta": Family("XLMRoberta", {"max_position_embeddings": LONGEST + 2, "layer_norm_eps": 1e-5}, pad=1),
    "camembert": Family("Camembert", {"max_position_embeddings": LONGEST + 2, "type_vocab_size": 1}, pad=1),
    "electra": Family("Electra", {"embedding_size": 16, "hidden_act": "gelu_new"}, types=2),
    "electra, one width": Family("Electra", {"embedding_size": 32, "hidden_act": "relu"}, types=2),
    "distilbert": Family("DistilBert", {"hidden_dim": 48, "activation": "relu"}),
    "distilbert, gelu": Family("DistilBert", {"hidden_dim": 48}),
    "deberta-v3": Family("DebertaV2", {**DISTANCES, "legacy": False}),
    "deberta-v2": Family("DebertaV2", {**DISTANCES, "max_relative_positions": 24, "hidden_act": "gelu_new"}),
}
HEADS: dict[HeadType, str] = {
    "row": "ForSequenceClassification",
    "choice": "ForMultipleChoice",
    "token": "ForTokenClassification",
    "span": "ForQuestionAnswering",
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer.json of fewer tokens than the models."""
    names = {name: place for place, name in enumerate(SPECIAL)}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(names, unk_token="<unk>"))
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    backend.save(str(file))
    return file


def rows_of(family: Family) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, token types and a mask of rows of unlike lengths, one of them as long as rows may be."""
    torch.manual_seed(1)
    lengths = torch.tensor([LONGEST, 2, 17, 31])
    mask = torch.arange(LONGEST)[None] < lengths[:, None]
    types = torch.randint(family.types, mask.shape) * mask
    return torch.where(mask, torch.randint(5, VOCAB, mask.shape), family.pad), types, mask


def inputs_of(family: Family) -> dict[str, Tensor]:
    """What their model is called with."""
    ids, types, mask = rows_of(family)
    more = {"token_type_ids": types} if family.types > 1 else {}
    return {"input_ids": ids, "attention_mask": mask.long(), **more}


def furthest(ours: Tensor, theirs: Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


def hidden_of(model: Encoder, family: Family) -> tuple[Tensor, Tensor]:
    ids, types, mask = rows_of(family)
    return model.encode(ids, types, mask), mask


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_masked_words_there_and_back(name: str, tokenizer: Path, tmp_path: Path) -> None:
    family = FAMILIES[name]
    theirs = family.model("ForMaskedLM")
    theirs.save_pretrained(tmp_path / "theirs")
    ours, report = read_model(tmp_path / "theirs")
    assert not report.unused
    assert not report.lacks("mlm_head")
    hidden, mask = hidden_of(ours, family)
    expected = theirs(**inputs_of(family)).logits
    assert furthest(ours.mlm_logits(hidden)[mask], expected[mask]) < TOLERANCE
    save_model(ours, tokenizer, tmp_path / "ours")
    kind = transformers.BertForPreTraining if name == "bert" else type(theirs)
    back, info = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [kind.__name__]
    logits = back.eval()(**inputs_of(family))
    assert furthest((logits.prediction_logits if name == "bert" else logits.logits)[mask], expected[mask]) < TOLERANCE
    weights, kept = (load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "ours"))
    assert not [one for one in weights if not torch.equal(weights[one], kept[one])]
    assert all("pooler" in one or "seq_relationship" in one for one in kept.keys() - weights.keys())


@pytest.mark.parametrize("name", FAMILIES)
def test_gradients(name: str, tmp_path: Path) -> None:
    """That of the loss over all tokens, in every weight that pre-training changes."""
    family = FAMILIES[name]
    theirs = family.model("ForMaskedLM")
    theirs.save_pretrained(tmp_path)
    ours, _ = read_model(tmp_path)
    hidden, mask = hidden_of(ours, family)
    labels = torch.where(mask, rows_of(family)[0].roll(1, 1), -100)
    functional.cross_entropy(ours.mlm_logits(hidden)[mask], labels[mask]).backward()
    theirs(**inputs_of(family), labels=labels).loss.backward()
    mapping, found = mapping_of(ours.config), dict(ours.named_parameters())
    compared = set()
    for one, parameter in theirs.named_parameters():
        names = (WORDS,) if one == mapping.decoder else mapping.to_local(one)  # tied, whichever comes first
        assert furthest(torch.cat([found[local].grad for local in names]), parameter.grad) < TOLERANCE, one
        compared |= {*names}
    trained = {local for local, parameter in found.items() if parameter.requires_grad}
    assert {local for local in trained - compared if not local.startswith(("pooler.", "nsp_head."))} == set()


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_an_untied_output_matrix(name: str, tokenizer: Path, tmp_path: Path) -> None:
    if name == "deberta-v3":
        pytest.skip("its class has none")
    family = FAMILIES[name]
    theirs = family.model("ForMaskedLM", tie_word_embeddings=False)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path / "theirs")
    ours, report = read_model(tmp_path / "theirs")
    assert not report.unused
    hidden, mask = hidden_of(ours, family)
    expected = theirs(**inputs_of(family)).logits[mask]
    assert furthest(ours.mlm_logits(hidden)[mask], expected) < TOLERANCE
    save_model(ours, tokenizer, tmp_path / "ours")
    again = type(theirs).from_pretrained(tmp_path / "ours").eval()
    assert furthest(again(**inputs_of(family)).logits[mask], expected) < TOLERANCE


@pytest.mark.parametrize("name", FAMILIES)
@torch.inference_mode()
def test_an_encoder_saved_alone(name: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    theirs = family.model("Model")
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="10KB")  # in shards, with an index
    ours, report = read_model(tmp_path / "theirs")
    assert not report.unused
    assert report.lacks("mlm_head")
    hidden, mask = hidden_of(ours, family)
    expected = theirs(**inputs_of(family), output_hidden_states=True)
    assert furthest(hidden[mask], expected.last_hidden_state[mask]) < TOLERANCE
    if "pooler_output" in expected:
        assert furthest(ours.get_submodule("pooler")(hidden), expected.pooler_output) < TOLERANCE
    ids, types, _ = rows_of(family)
    for layer in (0, 1):
        states = ours.hidden_states(ids, types, mask, layer=layer)
        assert furthest(states[mask], expected.hidden_states[layer][mask]) < TOLERANCE


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("name", [name for name in FAMILIES if "," not in name and name != "deberta-v2"])
@torch.inference_mode()
def test_heads_of_tasks_there_and_back(name: str, head: HeadType, tokenizer: Path, tmp_path: Path) -> None:
    family = FAMILIES[name]
    theirs = family.model(HEADS[head], num_labels={"choice": 1, "span": 2}.get(head, 3))
    theirs.save_pretrained(tmp_path / "theirs")
    read = read_fine_tuned(tmp_path / "theirs")
    given = inputs_of(family)
    mask = given["attention_mask"].bool()
    expected = their_logits(theirs, given, head)
    at = torch.zeros(len(mask), 1, dtype=torch.int64) if head in ("row", "choice") else None
    ours = read.model(LabelledBatch(given["input_ids"], rows_of(family)[1], mask, at, torch.empty(0)))
    where = slice(None) if at is not None else mask
    assert furthest((ours[:, 0] if at is not None else ours)[where], expected[where]) < TOLERANCE
    save_fine_tuned(read.model, tokenizer, tmp_path / "ours", labels=read.labels, problem=read.problem)
    back, info = type(theirs).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    again = their_logits(back.eval(), given, head)
    assert furthest(again[where], expected[where]) < TOLERANCE


def their_logits(model: nn.Module, given: dict[str, Tensor], head: HeadType) -> Tensor:
    """Logits [B, outputs] of rows, or [B, S, outputs] of tokens."""
    if head == "choice":
        return model(**{name: one[:, None] for name, one in given.items()}).logits
    found = model(**given)
    return torch.stack([found.start_logits, found.end_logits], -1) if head == "span" else found.logits


@torch.inference_mode()
def test_a_discriminator_there_and_back(tokenizer: Path, tmp_path: Path) -> None:
    family = FAMILIES["electra"]
    theirs = family.model("ForPreTraining")
    theirs.save_pretrained(tmp_path / "theirs")
    ours, report = read_model(tmp_path / "theirs")
    assert isinstance(ours, Electra)
    assert not report.unused
    assert report.lacks("mlm_head")
    assert not report.lacks("rtd_head")
    hidden, mask = hidden_of(ours, family)
    expected = theirs(**inputs_of(family)).logits[mask]
    assert furthest(ours.rtd_logits(hidden)[mask], expected) < TOLERANCE
    save_model(ours, tokenizer, tmp_path / "ours")
    back, info = transformers.ElectraForPreTraining.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(info.values()), info
    assert furthest(back.eval()(**inputs_of(family)).logits[mask], expected) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("deberta-v3", {"conv_kernel_size": 3}),
        ("deberta-v3", {"pos_att_type": "c2p"}),
        ("deberta-v3", {"share_att_key": False}),
        ("deberta-v3", {"position_biased_input": True}),
        ("deberta-v3", {"type_vocab_size": 2}),
        ("electra", {"summary_activation": "tanh"}),
        ("roberta", {"pad_token_id": None}),
        ("distilbert", {"activation": "silu"}),
    ],
)
def test_what_is_not_known_is_refused(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    FAMILIES[name].model("Model").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))
    with pytest.raises(ModelError, match=next(iter(values))):
        read_model(tmp_path)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_weight_without_a_place_is_refused(name: str, tmp_path: Path) -> None:
    theirs = FAMILIES[name].model("Model")
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    extra = next(one for one in weights if ".0." in one).rpartition(".")[0] + ".adapter.weight"
    save_file(weights | {extra: torch.ones(2)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="adapter"):
        read_model(tmp_path)


def test_a_folder_as_deberta_v3_was_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Heads under names that its class does not read, position embeddings that are never used, no word of `legacy`."""
    theirs = FAMILIES["deberta-v3"].model("ForMaskedLM")
    theirs.save_pretrained(tmp_path)
    file, weights = tmp_path / "config.json", load_file(tmp_path / "model.safetensors")
    file.write_text(json.dumps({name: one for name, one in json.loads(file.read_text()).items() if name != "legacy"}))
    added = {
        "deberta.embeddings.position_embeddings.weight": torch.ones(2, 2),
        "mask_predictions.dense.bias": weights["lm_predictions.lm_head.bias"].clone(),
    }
    save_file(weights | added, tmp_path / "model.safetensors")
    model = load_model(tmp_path)
    assert read_model(tmp_path)[1].lacks("mlm_head")
    noted = capsys.readouterr().err
    assert "lm_predictions" in noted
    assert "mask_predictions" in noted
    assert torch.equal(model.word_embeddings.weight, weights["deberta.embeddings.word_embeddings.weight"])
