"""Every architecture with a tokenizer of its kind, in every verb: each gives what stock transformers gives."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from bertwright import embed, evaluate, export, finetune, predict, prepare, verify
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import ModelError, TokenizerError
from bertwright.hub.encoder_decoder_folder import read_encoder_decoder, save_encoder_decoder
from bertwright.hub.encoder_folder import read_model, save_model
from bertwright.hub.sentence_folder import read_sentence_folder, save_sentence_model
from bertwright.inference.minimal_pairs import log_unreplaced
from bertwright.log import Facts
from bertwright.model.build import architecture_of
from bertwright.model.decoder import Decoder
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_config import EncoderConfig
from bertwright.model.encoder_decoder import EncoderDecoder, decoder_config, start_from
from bertwright.model.generate import SearchRules
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.reports.model_table import show_model
from bertwright.tasks.question_answering.windows import window_rows
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import SPECIAL_NAMES, load_tokenizer
from bertwright.tokenizer.vocabulary_map import map_of_new, write_vocabulary_map
from bertwright.train.setup.assemble import build
from bertwright.train.setup.init_from import open_start
from bertwright.train.setup.pretrain_config import resolve

TOLERANCE = 1e-5
LONGEST = 48
TEXTS = ["The old boat sails home.", "we see the red sun, and it is old!", "A new moon"]
PAIRS = ["The boat is red.", "it sails"], ["we see it.", "the moon and the old red sun"]
CORPUS = [*TEXTS, *PAIRS[0], *PAIRS[1], "the sea is far, far from home; a boat sails", "Old boats, new boats, 12 moons"]

MakeTokenizer = Callable[[], Tokenizer]


def wordpiece() -> Tokenizer:
    """BERT's: [CLS] A [SEP] B [SEP], token types 0 and 1."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer, backend.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=120, special_tokens=special))
    backend.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    backend.decoder = decoders.WordPiece()
    return backend


def byte_level() -> Tokenizer:
    """RoBERTa's: byte-level BPE, <s> A </s></s> B </s>, a mask that takes the blank before it."""
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return backend


def unigram(first: str, pair: str, special: list[str], *, mask: str) -> Tokenizer:
    """Made of a sentencepiece model: Unigram over pieces that begin with a blank."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("``", '"')])
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    unknown = next(name for name in special if "unk" in name.lower())
    trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token=unknown)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens([AddedToken(mask, lstrip=True, normalized=False)])
    framing = [(name, backend.token_to_id(name)) for name in {*first.split(), *pair.split()} & {*special}]
    backend.post_processor = processors.TemplateProcessing(single=first, pair=pair, special_tokens=framing)
    return backend


def xlm_roberta() -> Tokenizer:
    """XLM-RoBERTa's and CamemBERT's frame, all token types 0."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    return unigram("<s> $A </s>", "<s> $A </s> </s> $B </s>", special, mask="<mask>")


def camembert() -> Tokenizer:
    """CamemBERT's: the ids of its special tokens are not the first ones."""
    special = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
    return unigram("<s> $A </s>", "<s> $A </s> </s> $B </s>", special, mask="<mask>")


def deberta() -> Tokenizer:
    """DeBERTa's: Unigram in BERT's frame."""
    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    return unigram("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", special, mask="[MASK]")


CLS, SEP = {"bos_token_id": 2, "cls_token_id": 2}, {"eos_token_id": 3, "sep_token_id": 3}
FAMILIES: dict[str, tuple[str, MakeTokenizer, dict[str, Any]]] = {
    "bert": ("Bert", wordpiece, {}),
    "bert, words of XLM-R": ("Bert", xlm_roberta, {"pad_token_id": 1}),
    "modernbert": ("ModernBert", wordpiece, CLS | SEP),
    "roberta": ("Roberta", byte_level, {"type_vocab_size": 1}),
    "xlm-roberta": ("XLMRoberta", xlm_roberta, {"type_vocab_size": 1}),
    "camembert": ("Camembert", camembert, {"type_vocab_size": 1}),
    "electra": ("Electra", wordpiece, {"embedding_size": 16}),
    "distilbert": ("DistilBert", wordpiece, {"hidden_dim": 48}),
    "deberta-v3": (
        "DebertaV2",
        deberta,
        {
            "relative_attention": True, "position_biased_input": False, "pos_att_type": "p2c|c2p",
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "position_buckets": 8, "legacy": False,
        },
    ),
}  # fmt: skip
COUNTED_FROM_PADDING = ("roberta", "xlm-roberta", "camembert")
TYPED = ("bert", "electra")
"""Those whose tokenizers give the second text of a pair another token type."""


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A family and its folder, as transformers writes it: a random model with a masked-token head."""
    name, make, settings = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp("family") / "model"
    backend = make()
    ids = backend.get_vocab()
    names = {kind: next(token for token in tokens if token in ids) for kind, tokens in SPECIAL_NAMES.items()}
    types = ["token_type_ids"] if request.param in TYPED else []
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_input_names=["input_ids", *types, "attention_mask"],
        **{f"{kind}_token": token for kind, token in names.items()},
    ).save_pretrained(folder)
    offset = ids[names["pad"]] + 1 if request.param in COUNTED_FROM_PADDING else 0
    shape = {
        "vocab_size": backend.get_vocab_size(), "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 48, "max_position_embeddings": LONGEST + offset, "pad_token_id": ids[names["pad"]],
    }  # fmt: skip
    config = getattr(transformers, f"{name}Config")(**shape | settings)
    torch.manual_seed(5)
    model = getattr(transformers, f"{name}ForMaskedLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return request.param, folder


def stock(folder: Path, kind: str = "AutoModel") -> Any:
    """Their model of a folder."""
    return getattr(transformers, kind).from_pretrained(folder, attn_implementation="eager").eval()


def test_rows_of_tokens(family: tuple[str, Path]) -> None:
    _, folder = family
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    encoder = TextEncoder(load_tokenizer(folder), max_length=LONGEST)
    firsts, seconds = (list(texts) for texts in zip(*PAIRS, strict=True))
    for second in (None, seconds):
        rows = encoder.rows(firsts, second, np.zeros(len(firsts)))
        batch = rows.arrays(np.arange(len(rows)))
        expected = theirs(firsts, second, padding=True, return_tensors="np")
        for name, values in expected.items():
            np.testing.assert_array_equal(batch[name], values)
        if "token_type_ids" not in expected and family[0].startswith("bert"):
            assert not batch["token_type_ids"].any()
    begin = TEXTS[1].index("red")
    spans = np.array([[begin, begin + 2]])
    rows, _ = window_rows(
        ["Where?"], [TEXTS[1]], np.zeros(1, np.int64), spans, encoder, length=LONGEST, stride=8, question_share=0.5
    )
    expected = theirs("Where?", TEXTS[1], return_offsets_mapping=True)
    np.testing.assert_array_equal(rows.ids, expected["input_ids"])
    (first, _), (_, last) = (expected["offset_mapping"][token] for token in rows.targets[0])
    assert TEXTS[1][first:last].strip() == "red"


def test_masked_words(family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = family
    text = "The old [MASK] sails home."
    words, model = transformers.AutoTokenizer.from_pretrained(folder), stock(folder, "AutoModelForMaskedLM")
    row = words(text.replace("[MASK]", words.mask_token), return_tensors="pt")
    place = int((row["input_ids"][0] == words.mask_token_id).nonzero())
    with torch.inference_mode():
        shares = model(**row).logits[0, place].softmax(-1)
    export(folder, tmp_path / "onnx")
    for ours in (folder, tmp_path / "onnx"):
        ((guesses,),) = (one["predictions"] for one in predict(ours, [text], precision="fp32", top_k=3))
        assert [share for _, share in guesses] == pytest.approx(shares.topk(3).values.tolist(), abs=TOLERANCE)


def test_sums_over_minimal_pairs(family: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = family
    if name == "deberta-v3":
        pytest.skip("its stock class is held by the masked words above")
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps({"good": TEXTS[0], "bad": TEXTS[2]}) + "\n")
    words, model = transformers.AutoTokenizer.from_pretrained(folder), stock(folder, "AutoModelForMaskedLM")
    sums = []
    for text in (TEXTS[0], TEXTS[2]):
        ids = words(text, return_tensors="pt")["input_ids"].repeat(len(words(text)["input_ids"]) - 2, 1)
        places = torch.arange(1, ids.shape[1] - 1)
        labels = ids[0, places].clone()
        ids[torch.arange(len(ids)), places] = words.mask_token_id
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[torch.arange(len(ids)), places].log_softmax(-1)
        sums.append(float(logits.gather(1, labels[:, None]).sum()))
    found = evaluate("minimal-pairs", folder, file)
    assert found["accuracy"] == float(sums[0] > sums[1])


def test_vectors(family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = family
    words, model = transformers.AutoTokenizer.from_pretrained(folder), stock(folder)
    batch = words(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**batch).last_hidden_state
    kept = batch["attention_mask"][:, :, None]
    expected = ((states * kept).sum(1) / kept.sum(1)).numpy()
    np.testing.assert_allclose(embed(folder, TEXTS), expected, atol=TOLERANCE)
    encoder, settings = read_sentence_folder(folder)
    sentences = SentenceEncoder(encoder, pooling="mean", normalize=False)
    save_sentence_model(sentences, folder, tmp_path / "sentences", max_length=settings.max_length)
    np.testing.assert_allclose(embed(tmp_path / "sentences", TEXTS), expected, atol=TOLERANCE)
    with torch.inference_mode():
        again = stock(tmp_path / "sentences")(**batch).last_hidden_state
    assert float((again - states).abs()[kept[..., 0] > 0].max()) < TOLERANCE
    export(tmp_path / "sentences", tmp_path / "onnx")
    np.testing.assert_allclose(embed(tmp_path / "onnx", TEXTS), expected, atol=TOLERANCE)


def test_a_classifier_of_pairs(family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = family
    file = tmp_path / "train.tsv"
    lines = [f"{first}\t{second}\t{number % 2}" for number, (first, second) in enumerate([*PAIRS, *PAIRS[::-1]] * 3)]
    file.write_text("\n".join(["first\tsecond\tlabel", *lines, ""]))
    finetune(
        "classify", folder, file, dev=file, out=tmp_path / "run",
        settings={"precision": "fp32", "schedule": {"epochs": 1}, "batches": {"rows": 4}},
    )  # fmt: skip
    made = tmp_path / "run" / "model"
    words, model = transformers.AutoTokenizer.from_pretrained(made), stock(made, "AutoModelForSequenceClassification")
    with torch.inference_mode():
        expected = model(**words(*PAIRS[0], return_tensors="pt")).logits.softmax(-1)[0]
    export(made, tmp_path / "onnx")
    for ours in (made, tmp_path / "onnx"):
        (answer,) = predict(ours, PAIRS[0], pair=True, precision="fp32")
        assert answer["label"] == str(int(expected.argmax()))
        assert answer["probability"] == pytest.approx(float(expected.max()), abs=TOLERANCE)
    verify(made)
    assert 0 <= evaluate("classify", made, file)["accuracy"] <= 1


@torch.inference_mode()
def test_a_translator(family: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = family
    encoder = read_model(folder)[0]
    torch.manual_seed(6)
    decoder = Decoder(decoder_config(encoder.config, layers=1))
    if name != "electra":  # whose embeddings are too narrow for a decoder
        start_from(decoder, encoder)
    ours = EncoderDecoder(encoder, decoder).eval()
    words = load_tokenizer(folder)
    rules = SearchRules(words.special.cls, words.special.sep, 16, beams=1, length_penalty=1.0)
    save_encoder_decoder(ours, folder, tmp_path / "made", rules=rules)
    theirs = transformers.EncoderDecoderModel.from_pretrained(tmp_path / "made").eval()
    batch = transformers.AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    started = torch.tensor([[words.special.cls, 9, 11]]).repeat(len(TEXTS), 1)
    expected = theirs(**batch, decoder_input_ids=started).logits
    again = read_encoder_decoder(tmp_path / "made").model
    mask = batch["attention_mask"].bool()
    memory = again.read(batch["input_ids"], torch.zeros_like(batch["input_ids"]), mask)
    logits = again.decoder.logits(again.decoder(started, memory))
    assert float((logits - expected).abs().max()) < TOLERANCE


@pytest.fixture(scope="module")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared text with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "texts.txt").write_text("\n".join(f"{text} {line}." for line in range(20) for text in CORPUS))
    prepare(folder / "texts.txt", folder / "data", vocab_size=512, document_boundary="line", valid_fraction=0.2)
    return folder / "data"


@pytest.mark.parametrize("kind", ["ForMaskedLM", "ForPreTraining"])
def test_another_vocabulary(family: tuple[str, Path], other_words: Path, tmp_path: Path, kind: str) -> None:
    """A row of tokens in both has the hidden states it had, and those tokens have the logits."""
    name, folder = family
    if kind == "ForPreTraining":
        if name != "electra":
            pytest.skip("ELECTRA alone has a discriminator")
        shutil.copytree(folder, tmp_path / "discriminator")
        folder = tmp_path / "discriminator"
        transformers.ElectraForPreTraining(transformers.AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    new = load_tokenizer(other_words)
    mapping = map_of_new(load_tokenizer(folder), new)
    write_vocabulary_map(other_words / "tokenizer", mapping, how="new", model="")
    start = open_start(folder, other_words)
    given = {"schedule": {"steps": 1, "phases": [{"length": 16, "rows": 4, "share": 1.0}]}}
    config = resolve("adapt", given | start.settings(given))
    state = build(open_dataset([other_words]), config, start=start)[0]
    assert isinstance(state.model, Encoder)
    save_model(state.model, other_words / "tokenizer", tmp_path / "made")
    ids = np.flatnonzero(mapping.kept >= 0)
    assert len(ids) > 20
    rows = np.random.default_rng(0).choice(ids[ids != new.special.pad], (2, 16))
    rows[1, 11:] = new.special.pad
    mask = torch.from_numpy(rows != new.special.pad)
    before, after = (
        stock(made, f"AutoModel{kind}")(input_ids=torch.from_numpy(row), attention_mask=mask, output_hidden_states=True)
        for made, row in ((folder, mapping.kept[rows]), (tmp_path / "made", rows))
    )
    for old, moved in zip(before.hidden_states, after.hidden_states, strict=True):
        assert float((moved - old)[mask].detach().abs().max()) < TOLERANCE
    if kind == "ForMaskedLM":
        apart = (after.logits[..., ids] - before.logits[..., mapping.kept[ids]])[mask]
        assert float(apart.detach().abs().max()) < TOLERANCE


def test_what_is_shown(family: tuple[str, Path]) -> None:
    shown = show_model(family[1])
    assert {"embeddings", "encoder layer 0", "encoder layer 1"} <= shown["weights"].keys()
    facts = shown.blocks[0]
    assert isinstance(facts, Facts)
    assert {name: facts.facts[name] for name in ("layers", "width", "heads", "inner width")} == {
        "layers": "2", "width": "32", "heads": "2", "inner width": "48",
    }  # fmt: skip


def test_what_a_discriminator_does(family: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = family
    if name != "electra":
        pytest.skip("ELECTRA alone has one")
    torch.manual_seed(7)
    theirs = transformers.ElectraForPreTraining(transformers.AutoConfig.from_pretrained(folder)).eval()
    theirs.save_pretrained(tmp_path)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    words.save_pretrained(tmp_path)
    batch = words(TEXTS[:1], return_tensors="pt")
    with torch.inference_mode():
        expected = theirs.electra(**batch).last_hidden_state.mean(1)
    np.testing.assert_allclose(embed(tmp_path, TEXTS[:1]), expected.numpy(), atol=TOLERANCE)
    sums = []
    for text in TEXTS:
        with torch.inference_mode():
            logits = theirs(**words(text, return_tensors="pt")).logits[0, 1:-1]
        sums.append(float(torch.log(1 - logits.sigmoid()).sum()))
    ours = log_unreplaced(read_model(tmp_path)[0].eval(), load_tokenizer(tmp_path), TEXTS)
    np.testing.assert_allclose(ours, sums, atol=TOLERANCE)
    best, worst = TEXTS[int(np.argmax(sums))], TEXTS[int(np.argmin(sums))]
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"good": best, "bad": worst}) + "\n")
    assert evaluate("minimal-pairs", tmp_path, tmp_path / "pairs.jsonl")["accuracy"] == 1
    with pytest.raises(ModelError, match="masked-token"):
        evaluate("minimal-pairs", _without_head(tmp_path), tmp_path / "pairs.jsonl")
    with pytest.raises(ModelError, match="masked-token"):
        export(tmp_path, tmp_path / "onnx")


def _without_head(folder: Path) -> Path:
    """Write a discriminator again without the head that finds replaced tokens."""
    bare = folder / "bare"
    transformers.ElectraModel.from_pretrained(folder).save_pretrained(bare)
    config = json.loads((bare / "config.json").read_text()) | {"architectures": ["ElectraForPreTraining"]}
    (bare / "config.json").write_text(json.dumps(config))
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(bare)
    return bare


def test_what_is_refused(family: tuple[str, Path]) -> None:
    name, folder = family
    model = read_model(folder)[0]
    if name not in ("bert", "bert, words of XLM-R", "modernbert"):
        with pytest.raises(ModelError, match="next-sentence"):
            predict(folder, PAIRS[0], pair=True)
        with pytest.raises(ValueError, match="cooccurrence"):
            EncoderConfig(architecture=architecture_of(model.config), init="cooccurrence")
    if name == "electra":
        with pytest.raises(ModelError, match="Electra"):
            start_from(Decoder(decoder_config(model.config)), model)
    spm, weights = folder.with_name("spm"), "model.safetensors"
    spm.mkdir()
    shutil.copy(folder / "config.json", spm)
    shutil.copy(folder / weights, spm)
    (spm / "sentencepiece.bpe.model").write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"sentencepiece\.bpe\.model.*AutoTokenizer"):
        embed(spm, TEXTS)
