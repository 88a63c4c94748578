"""A model goes on with another vocabulary, extended or new: kept vectors stay, and losses are compared by the byte."""

from pathlib import Path
from typing import Any

import pytest
import torch

from bertwright.corpus.cooccurrence import load_or_count
from bertwright.corpus.manifest import bytes_per_token, read_manifest
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import DataError, TokenizerError
from bertwright.hub.encoder_folder import load_model
from bertwright.model.init.new_vocabulary import move_vocabulary
from bertwright.tokenizer.load import load_tokenizer
from bertwright.tokenizer.vocabulary_map import read_vocabulary_map
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.held_out import fixed_batches
from bertwright.train.setup.own_vocabulary import PROBE, kept, rows_of, texts_of
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

SETTINGS: dict[str, Any] = {
    "schedule": {"steps": 2, "phases": [{"length": 32, "rows": 8, "share": 1.0}]}, "objective": {"names": ["mlm"]},
    "optimizer": {"learning_rate": 1e-12}, "engine": {"compile": False, "evaluation_rows": 32},
}  # fmt: skip
"""Two steps that change nothing to speak of."""


def _texts(file: Path, nouns: list[str]) -> Path:
    lines = [
        f"The {nouns[k % len(nouns)]} of {k % 7} {nouns[(k * 3 + 1) % len(nouns)]}s stood near the {nouns[k % 3]}. "
        f"Nobody had seen a {nouns[(k + 2) % len(nouns)]} before number {k}."
        for k in range(60)
    ]
    file.write_text("\n".join([*lines, *(f"{PROBE} Line {k}." for k in range(20))]), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    texts = _texts(folder / "old.txt", ["bridge", "boat", "harbour", "river"])
    prepare(texts, folder / "data", vocab_size=512, language="en", document_boundary="line", valid_fraction=0.2)
    pretrain(folder / "data", folder / "run", size="tiny", settings=SETTINGS | {"optimizer": {}}, recipe="classic")
    return folder / "run" / "model"


@pytest.fixture(scope="module", params=["extended", "new"])
def data(request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    texts = _texts(folder / "new.txt", ["bridge", "depolarisation", "repolarisation", "boat", "tokenization"])
    how: dict[str, Any] = {"extend_vocab": 6} if request.param == "extended" else {"new_tokenizer": True}
    prepare(
        texts, folder / "data", tokenizer=model, language="en", document_boundary="line", valid_fraction=0.2,
        vocab_size=None if request.param == "extended" else 576, **how,
    )  # fmt: skip
    return folder / "data"


@pytest.mark.parametrize("vectors", ["mean", "neighbours"])
def test_the_run_begins_from_moved_weights_and_is_read_back(
    model: Path, data: Path, tmp_path: Path, vectors: Any
) -> None:
    figures = pretrain(data, tmp_path / "run", init_from=model, new_vectors=vectors, settings=SETTINGS)
    mapping = read_vocabulary_map(data)
    assert mapping is not None
    train = Shards.open(data, "train")
    counts = load_or_count(data, train, len(mapping.kept)) if vectors == "neighbours" else None
    expected = move_vocabulary(load_model(model).state_dict(), mapping, counts=counts)
    found = load_model(tmp_path / "run" / "model").state_dict()
    for name in ("embeddings.words.weight", "mlm_head.bias", "embeddings.positions.weight"):
        assert torch.allclose(found[name], expected[name], atol=1e-6), name
    assert figures["valid"]["mlm_nats_per_byte"] > 0
    again = evaluate("mlm", tmp_path / "run" / "model", data)
    assert again["mlm_nats_per_byte"] == pytest.approx(figures["valid"]["mlm_nats_per_byte"], abs=2e-4)


def test_a_run_with_another_vocabulary_goes_on(model: Path, data: Path, tmp_path: Path) -> None:
    pretrain(data, tmp_path / "run", init_from=model, settings=SETTINGS)
    (tmp_path / "run" / "result.json").unlink()
    assert pretrain(data, tmp_path / "run", resume=True)["steps"] == 2


def test_data_of_a_vocabulary_made_for_another_model_are_refused(data: Path, tmp_path: Path) -> None:
    other = _texts(tmp_path / "other.txt", ["mountain", "valley", "forest"])
    prepare(other, tmp_path / "other", vocab_size=512, language="en", document_boundary="line", valid_fraction=0.2)
    pretrain(tmp_path / "other", tmp_path / "other-run", size="tiny", settings=SETTINGS, recipe="classic")
    with pytest.raises(DataError, match="--tokenizer"):
        pretrain(data, tmp_path / "run", init_from=tmp_path / "other-run" / "model", settings=SETTINGS)


def test_the_model_with_its_own_vocabulary_stands_beside_the_first_evaluation(
    model: Path, data: Path, tmp_path: Path
) -> None:
    figures = pretrain(data, tmp_path / "run", init_from=model, settings=SETTINGS)
    own = read_metrics(tmp_path / "run" / "metrics.jsonl")[0]["own_vocabulary"]
    (text,) = figures["before_after"]["texts"].values()
    assert text["own"]["nats_per_byte"] == own["mlm_nats_per_byte"]
    assert "its own vocabulary" in str(figures)
    ours, theirs = load_tokenizer(data), load_tokenizer(model)
    words = [text for batch in fixed_batches(Shards.open(data, "valid"), ours, length=32, rows=32)
             for text in texts_of(batch, ours)]  # fmt: skip
    of_run, of_own = (sum(len(one.encode(text)) for text in words) for one in (ours, theirs))
    size = bytes_per_token(read_manifest(data), "valid")
    assert size is not None
    assert own["mlm_loss"] / own["mlm_nats_per_byte"] == pytest.approx(size * of_run / of_own, rel=1e-4)


def test_a_vocabulary_that_drops_case_or_spaces_is_not_compared_with_one_that_has_them(tmp_path: Path) -> None:
    texts = _texts(tmp_path / "texts.txt", ["bridge", "boat", "harbour"])
    how: dict[str, Any] = {"language": "en", "document_boundary": "line", "valid_fraction": 0.2, "vocab_size": 576}
    read = {}
    for name, more in {"lower": {}, "cased": {"cased": True}, "unigram": {"kind": "unigram", "cased": True}}.items():
        prepare(texts, tmp_path / name, **how, **more)
        read[name] = load_tokenizer(tmp_path / name)
    told = {(new, old): kept(read[new], read[old]) for new in read for old in read}
    assert {pair for pair, same in told.items() if same} == {
        ("lower", "lower"), ("cased", "lower"), ("cased", "cased"),
        ("unigram", "lower"), ("unigram", "cased"), ("unigram", "unigram"),
    }  # fmt: skip


def test_rows_encoded_anew_by_the_same_tokenizer_are_the_rows(data: Path) -> None:
    dataset = open_dataset([data])
    tokenizer = dataset.tokenizer
    for batch in fixed_batches(Shards.open(data, "valid"), tokenizer, length=32, rows=32):
        texts = texts_of(batch, tokenizer)
        again, tokens = rows_of(texts, tokenizer, longest=32)
        assert tokens == int(batch.maskable.sum())
        for name in ("input_ids", "attention_mask", "maskable", "word_starts"):
            wanted, found = getattr(batch, name), getattr(again, name)
            assert torch.equal(found, wanted[:, : found.shape[1]]), name
            assert not batch.attention_mask[:, found.shape[1] :].any()
        cut, every = rows_of(texts, tokenizer, longest=8)
        assert cut.input_ids.shape[1] == 8
        assert every == tokens


def test_a_text_without_a_piece_worth_adding_leaves_no_folder(model: Path, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("The bridge stood near the boat.\n\nNobody had seen a river before.\n")
    how: dict[str, Any] = {"tokenizer": model, "language": "en", "document_boundary": "blank", "valid_fraction": 0}
    with pytest.raises(TokenizerError, match="no piece"):
        prepare(tmp_path / "one.txt", tmp_path / "data", extend_vocab=9, **how)
    assert prepare(tmp_path / "one.txt", tmp_path / "data", **how)["tokens"]["train"] > 0
