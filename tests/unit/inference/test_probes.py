"""Probes: what a file is told by its content, and figures that are those of the reference on the same examples."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bertwright.errors import CorpusError
from bertwright.inference.minimal_pairs import minimal_pair_accuracy
from bertwright.inference.probes import ClassifierProbe, MinimalPairProbe, mean_states, open_probes
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "good", "bad", "film", "book", "day", "was", "."]
CLASSES = {"good": "pos", "bad": "neg"}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("words")
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def model() -> Encoder:
    torch.manual_seed(3)
    return build_encoder(named_size("tiny", vocab_size=len(WORDS), max_positions=32)).eval()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    lines = ["text\tlabel"]
    for _ in range(200):
        word = str(rng.choice(["good", "bad"]))
        filler = " ".join(rng.choice(["a", "film", "book", "day", "was", "."], rng.integers(2, 12)))
        lines.append(f"{filler} {word} film\t{CLASSES[word]}")
    (tmp_path / "films.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "films.tsv"


def test_labelled_texts_are_told_apart_by_the_features_of_single_rows(
    model: Encoder, tokenizer: Tokenizer, labelled: Path
) -> None:
    (probe,) = open_probes([labelled], tokenizer, longest=32)
    assert isinstance(probe, ClassifierProbe)
    ids = [[tokenizer.special.cls, *tokenizer.encode(text), tokenizer.special.sep] for text in texts_of(labelled)]
    with torch.inference_mode():
        alone = [model.encode(torch.tensor([row]), torch.zeros(1, len(row), dtype=torch.int64),
                              torch.ones(1, len(row), dtype=torch.bool))[0].mean(0).numpy() for row in ids]  # fmt: skip
    np.testing.assert_allclose(mean_states(model, probe.rows), np.stack(alone), atol=1e-5)
    assert probe.tokens == sum(map(len, ids))
    held, classes = probe.held_out, probe.rows.targets
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=1000))
    reference.fit(np.stack(alone)[~held], classes[~held])
    found = probe.measure(model)
    assert found == pytest.approx(reference.score(np.stack(alone)[held], classes[held]), abs=1 / held.sum())
    assert found > 0.9 > 0.7 > probe.chance  # one word in about nine tells the classes apart, even to a drawn encoder
    assert 0.25 < held.mean() < 0.35


def texts_of(file: Path) -> list[str]:
    return [line.split("\t")[0] for line in file.read_text(encoding="utf-8").splitlines()[1:]]


def test_what_says_nothing_of_the_label_is_at_chance(tokenizer: Tokenizer, labelled: Path, model: Encoder) -> None:
    lines = labelled.read_text(encoding="utf-8").replace("good", "a").replace("bad", "a").splitlines()
    labelled.write_text("\n".join(lines) + "\n", encoding="utf-8")
    (probe,) = open_probes([labelled], tokenizer, longest=32)
    spread = 3 * (probe.chance * (1 - probe.chance) / probe.held_out.sum()) ** 0.5  # type: ignore[attr-defined]
    assert abs(probe.measure(model) - probe.chance) < spread + 0.1


def test_minimal_pairs_are_known_by_their_keys(model: Encoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    pairs = [{"good": f"a {one} was good .", "bad": f"was a {one} good ."} for one in ("film", "book", "day")]
    pairs.append({"good": "a film " * 40, "bad": "a book " * 40})  # longer than the model reads: left out
    (tmp_path / "grammar.jsonl").write_text("\n".join(map(json.dumps, pairs)) + "\n", encoding="utf-8")
    (probe,) = open_probes([tmp_path / "grammar.jsonl"], tokenizer, longest=32)
    assert isinstance(probe, MinimalPairProbe)
    assert (probe.name, probe.chance, len(probe.pairs)) == ("grammar", 0.5, 3)
    assert probe.tokens == 2 * 3 * 5 * 7  # of each sentence a row for each of its tokens
    assert probe.measure(model) == minimal_pair_accuracy(model, tokenizer, pairs[:3])["accuracy"]


def test_names_differ_and_what_is_no_probe_is_refused(tokenizer: Tokenizer, labelled: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "films.tsv"
    other.write_text(labelled.read_text(encoding="utf-8"), encoding="utf-8")
    assert [probe.name for probe in open_probes([labelled, other], tokenizer, longest=32)] == ["films-1", "films-2"]
    for file, text in (("none.tsv", None), ("one.tsv", "text\tlabel\na film\tpos\na book\tpos\n"), ("e.jsonl", "")):
        if text is not None:
            (tmp_path / file).write_text(text, encoding="utf-8")
        with pytest.raises(CorpusError, match=file):
            open_probes([tmp_path / file], tokenizer, longest=32)
