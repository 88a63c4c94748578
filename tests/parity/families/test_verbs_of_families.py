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
from torch.nn.functional import cross_entropy

from bertwright import embed, evaluate, export, predict, prepare, pretrain, verify
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import ModelError, TokenizerError
from bertwright.hub.encoder_folder import read_model, save_model
from bertwright.hub.onnx.onnx_folder import NEXT_SENTENCE
from bertwright.hub.sentence_folder import read_sentence_folder, save_sentence_model
from bertwright.inference.minimal_pairs import log_unreplaced, pseudo_log_likelihoods
from bertwright.log import Facts
from bertwright.model.build import architecture_of
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_config import EncoderConfig
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.reports.model_table import show_model
from bertwright.tasks.question_answering.windows import window_rows
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.vocabulary_map import map_of_new, write_vocabulary_map
from bertwright.train.held_out import fixed_examples
from bertwright.train.setup.assemble import build
from bertwright.train.setup.init_from import open_start
from bertwright.train.setup.pretrain_config import resolve
from bertwright.types import MaskedBatch

TOLERANCE = 1e-5
LONGEST = 48
TEXTS = ["The old boat sails home.", "we see the red sun, and it is old!", "A new moon"]
PAIRS = ["The boat is red.", "it sails"], ["we see it.", "the moon and the old red sun"]
MORE = ["the sea is far, far from home; a boat sails", "Old boats, new boats, 12 moons"]


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


def test_held_out_masked_words(family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = family
    data, batches = held_out(folder, tmp_path, "mlm")
    model = stock(folder, "AutoModelForMaskedLM")
    found = evaluate("mlm", folder, data, length=16, num_rows=64)
    assert found["mlm_loss"] == pytest.approx(loss_of_words(model, batches), abs=TOLERANCE)


def held_out(folder: Path, out: Path, *names: str) -> tuple[Path, list[MaskedBatch]]:
    """Prepare text with the tokenizer of a folder; return the data, and the rows that are evaluated on."""
    texts = [*TEXTS, *PAIRS[0], *PAIRS[1], *MORE]
    lines = (" ".join(np.random.default_rng(line).permutation(texts)) for line in range(60))
    (out / "texts.txt").write_text("\n".join(lines))
    prepare(out / "texts.txt", out / "data", tokenizer=folder, document_boundary="line", valid_fraction=0.5)
    words = load_tokenizer(folder)
    objective = build_objective(ObjectiveConfig(names=names), vocab_size=words.vocab_size, mask_id=words.special.mask)
    return out / "data", fixed_examples(Shards.open(out / "data", "valid"), words, objective, length=16, rows=64)


def given_of(batch: MaskedBatch, *, types: bool) -> dict[str, Any]:
    """Return what a stock model is called with."""
    more = {"token_type_ids": batch.token_type_ids} if types else {}
    return {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long(), **more}


@torch.inference_mode()
def loss_of_words(model: Any, batches: list[MaskedBatch], *, types: bool = False) -> float:
    """Return the mean loss of a stock model at masked tokens."""
    nats = []
    for batch in batches:
        used, found = batch.masked_weights > 0, model(**given_of(batch, types=types))
        logits = found.get("logits", found.get("prediction_logits"))
        rows = torch.arange(len(logits))[:, None].expand_as(used)[used]
        labels = batch.masked_labels[used]
        nats.append(cross_entropy(logits[rows, batch.masked_positions[used]], labels, reduction="none"))
    return float(torch.cat(nats).mean())


@pytest.mark.parametrize("name", ["bert", "modernbert"])
def test_next_sentences(name: str, folder_of: Callable[[str], Path], tmp_path: Path) -> None:
    """BERT's head stands beside that of masked words; ModernBERT's is a classifier, in a folder that says so."""
    folder = tmp_path / "model"
    shutil.copytree(folder_of(name), folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    config.id2label, config.bertwright = {0: "is_next", 1: "random"}, {NEXT_SENTENCE: True}
    torch.manual_seed(8)
    kind = transformers.BertForPreTraining if name == "bert" else transformers.ModernBertForSequenceClassification
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    data, batches = held_out(folder, tmp_path, "mlm", "nsp")
    rows = transformers.AutoTokenizer.from_pretrained(folder)(*PAIRS[0], return_tensors="pt")
    with torch.inference_mode():
        expected = float(pairs_of(model, **rows).softmax(-1)[0, 0])
        nats = [
            cross_entropy(pairs_of(model, **given_of(batch, types=name == "bert")), batch.next_label)
            for batch in batches
        ]
    (answer,) = predict(folder, PAIRS[0], pair=True)
    assert answer["next"] == pytest.approx(expected, abs=TOLERANCE)
    found = evaluate("nsp", folder, data, length=16, num_rows=64)
    assert found["nsp_loss"] == pytest.approx(float(torch.stack(nats).mean()), abs=TOLERANCE)
    if name == "bert":
        assert found["mlm_loss"] == pytest.approx(loss_of_words(model, batches, types=True), abs=TOLERANCE)


def pairs_of(model: Any, **given: Any) -> Any:
    """Return the logits of a stock model for pairs."""
    found = model(**given)
    return found.get("seq_relationship_logits", found.get("logits"))


def test_sums_over_minimal_pairs(family: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = family
    words, model = transformers.AutoTokenizer.from_pretrained(folder), stock(folder, "AutoModelForMaskedLM")
    sums = []
    for text in TEXTS:
        ids = words(text, return_tensors="pt")["input_ids"].repeat(len(words(text)["input_ids"]) - 2, 1)
        places = torch.arange(1, ids.shape[1] - 1)
        labels = ids[0, places].clone()
        ids[torch.arange(len(ids)), places] = words.mask_token_id
        with torch.inference_mode():
            logits = model(input_ids=ids).logits[torch.arange(len(ids)), places].log_softmax(-1)
        sums.append(float(logits.gather(1, labels[:, None]).sum()))
    ours = pseudo_log_likelihoods(read_model(folder)[0].eval(), load_tokenizer(folder), TEXTS)
    np.testing.assert_allclose(ours, sums, atol=10 * TOLERANCE)  # a sum over some twenty tokens
    assert evaluate("minimal-pairs", folder, pairs_of_texts(tmp_path)) == accuracies(sums)


def pairs_of_texts(folder: Path) -> Path:
    """Write two pairs, a field each, of which the first text is said to be the good one."""
    pairs = [{"good": TEXTS[0], "bad": TEXTS[place], "field": str(place)} for place in (1, 2)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return folder / "pairs.jsonl"


def accuracies(sums: list[float]) -> dict[str, float]:
    """Return what these pairs come out as."""
    fields = {str(place): float(sums[0] > sums[place]) for place in (1, 2)}
    return {"accuracy": sum(fields.values()) / 2, **fields}


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


@pytest.fixture(scope="module")
def other_words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared text with a tokenizer of its own."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "texts.txt").write_text(
        "\n".join(f"{text} {line}." for line in range(20) for text in [*TEXTS, *PAIRS[0], *PAIRS[1], *MORE])
    )
    prepare(folder / "texts.txt", folder / "data", vocab_size=512, document_boundary="line", valid_fraction=0.2)
    return folder / "data"


def test_another_vocabulary(any_family: tuple[str, Path], other_words: Path, tmp_path: Path) -> None:
    """A row of tokens in both has the hidden states it had, and those tokens have the logits."""
    name, folder = any_family
    kind = "ForPreTraining" if name.endswith("discriminator") else "ForMaskedLM"
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


def test_what_is_shown_and_verified(any_family: tuple[str, Path]) -> None:
    verify(any_family[1])
    shown = show_model(any_family[1])
    assert {"embeddings", "encoder layer 0", "encoder layer 1"} <= shown["weights"].keys()
    facts = shown.blocks[0]
    assert isinstance(facts, Facts)
    assert {name: facts.facts[name] for name in ("layers", "width", "heads", "inner width")} == {
        "layers": "2", "width": "32", "heads": "2", "inner width": "48",
    }  # fmt: skip


def test_what_a_discriminator_does(discriminator: Path, tmp_path: Path) -> None:
    theirs, words = (
        stock(discriminator, "AutoModelForPreTraining"),
        transformers.AutoTokenizer.from_pretrained(discriminator),
    )
    batch = words(TEXTS, padding=True, return_tensors="pt")
    kept = batch["attention_mask"][:, :, None]
    with torch.inference_mode():
        states = theirs.electra(**batch).last_hidden_state
    expected = ((states * kept).sum(1) / kept.sum(1)).numpy()
    np.testing.assert_allclose(embed(discriminator, TEXTS), expected, atol=TOLERANCE)
    sums = []
    for text in TEXTS:
        with torch.inference_mode():
            logits = theirs(**words(text, return_tensors="pt")).logits[0, 1:-1]
        sums.append(float(torch.log(1 - logits.sigmoid()).sum()))
    ours = log_unreplaced(read_model(discriminator)[0].eval(), load_tokenizer(discriminator), TEXTS)
    np.testing.assert_allclose(ours, sums, atol=TOLERANCE)
    pairs = pairs_of_texts(tmp_path)
    assert evaluate("minimal-pairs", discriminator, pairs) == accuracies(sums)
    (answer,) = predict(discriminator, TEXTS[:1])
    with torch.inference_mode():
        shares = theirs(**words(TEXTS[0], return_tensors="pt")).logits[0, 1:-1].sigmoid()
    assert [share for _, share in answer["replaced"]] == pytest.approx(shares.tolist(), abs=TOLERANCE)
    with pytest.raises(ModelError, match="masked-token"):
        evaluate("mlm", discriminator, held_out(discriminator, tmp_path, "mlm")[0])
    with pytest.raises(ModelError, match="next-sentence"):
        evaluate("nsp", discriminator, tmp_path / "data")
    with pytest.raises(ModelError, match="masked-token"):
        evaluate("minimal-pairs", _without_head(discriminator, tmp_path / "bare"), pairs)
    with pytest.raises(ModelError, match="masked-token"):
        export(discriminator, tmp_path / "onnx")


def test_a_discriminator_is_gone_on_from(discriminator: Path, tmp_path: Path) -> None:
    """The run gives it a masked-token head; at no learning rate its hidden states stay."""
    data, batches = held_out(discriminator, tmp_path, "mlm")
    settings = {
        "schedule": {"steps": 1, "phases": [{"length": 16, "rows": 4, "share": 1.0}]},
        "engine": {"compile": False, "precision": "fp32", "evaluation_rows": 32},
    }  # fmt: skip
    pretrain(data, tmp_path / "run", init_from=discriminator, learning_rate=1e-30, settings=settings)
    made = tmp_path / "run" / "model"
    rows = transformers.AutoTokenizer.from_pretrained(made)(TEXTS[1], return_tensors="pt")
    theirs, info = transformers.ElectraForMaskedLM.from_pretrained(made, output_loading_info=True)
    assert not any(info.values()), info
    with torch.inference_mode():
        before, after = (model(**rows).last_hidden_state for model in (stock(discriminator), theirs.eval().electra))
    assert float((after - before).abs().max()) < TOLERANCE
    found = evaluate("mlm", made, data, length=16, num_rows=64, whole_word=False)
    assert found["mlm_loss"] == pytest.approx(loss_of_words(theirs, batches), abs=TOLERANCE)


def _without_head(folder: Path, bare: Path) -> Path:
    """Write a discriminator again without the head that finds replaced tokens."""
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
    spm, weights = folder.with_name("spm"), "model.safetensors"
    spm.mkdir()
    shutil.copy(folder / "config.json", spm)
    shutil.copy(folder / weights, spm)
    (spm / "sentencepiece.bpe.model").write_bytes(b"")
    with pytest.raises(TokenizerError, match=r"sentencepiece\.bpe\.model.*AutoTokenizer"):
        embed(spm, TEXTS)
