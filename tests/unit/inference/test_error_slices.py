"""Slices of a file: which examples are in them, and that a planted weakness is found and none is seen where none is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tokenizers

from bertwright.inference.error_slices import Slice, compare_slices, slices_of
from bertwright.tasks.bootstrap import means
from bertwright.tasks.classification.reader import Texts
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "film", "##s", "good", "b", "##a", "##d"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Return a WordPiece tokenizer of a few words."""
    file = tmp_path_factory.mktemp("words") / "tokenizer.json"
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]")
    )
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    backend.add_special_tokens(WORDS[:5])
    backend.save(str(file))
    return load_tokenizer(file)


def test_slices_hold_the_examples_that_their_names_say(tokenizer: Tokenizer) -> None:
    texts = ["good film"] * 30 + ["good films"] * 30 + ["a a a a a a a xyz"] * 30 + ["a b good film film"] * 30
    examples = Texts(Path("none"), texts, None, np.arange(120) % 2)
    found = {(one.by, one.name): one.places for one in slices_of(examples, tokenizer, ["no", "yes"])}
    assert found["length", "2 to 2 tokens"].tolist() == list(range(30))
    assert found["length", "3 to 3 tokens"].tolist() == list(range(30, 60))
    broken = "words in pieces or unknown"
    assert found[broken, "none"].tolist() == [*range(30), *range(90, 120)]
    assert found[broken, "over 25%"].tolist() == list(range(30, 60))  # "films" is one of two words
    assert found[broken, "up to 25%"].tolist() == list(range(60, 90))  # one of eight is unknown
    assert found["label", "yes"].tolist() == list(range(1, 120, 2))
    few = Texts(Path("none"), texts[:30], None, np.zeros(30, dtype=np.int64))
    assert slices_of(few, tokenizer, ["no", "yes"]) == []


def test_a_planted_weakness_is_found_and_the_interval_holds_it() -> None:
    """60% right in a slice and 90% elsewhere: 12 times the standard error of the difference, 0.05."""
    random = np.random.default_rng(0)
    weak = np.arange(150)
    right = (random.random(900) < np.where(np.arange(900) < 150, 0.6, 0.9)).astype(np.float64)
    slices = [Slice("length", "weak", weak), Slice("length", "usual", np.arange(400, 600))]
    planted, usual = compare_slices(means({"accuracy": right}), slices, metric="accuracy")
    assert planted["worse"]
    assert not usual["worse"]
    assert planted["difference"] == pytest.approx(right[:150].mean() - right[150:].mean())
    assert planted["low"] < -0.3 < planted["high"]
    again, _ = compare_slices(means({"accuracy": right}), slices, metric="accuracy")
    assert again == planted
    error, _ = compare_slices(means({"loss": 1 - right}), slices, metric="loss")
    assert error["worse"]
    assert error["difference"] > 0


def test_where_nothing_is_planted_few_slices_are_called_worse() -> None:
    """Of 40 files with 4 slices at most 5% have one, 2 in expectation; more than 7 are less likely than 1e-3."""
    random, files = np.random.default_rng(1), 0
    for number in range(40):
        right = (random.random(200) < 0.8).astype(np.float64)
        slices = [Slice("length", str(part), np.arange(50 * part, 50 * part + 50)) for part in range(4)]
        found = compare_slices(means({"accuracy": right}), slices, metric="accuracy", seed=number)
        files += any(one["worse"] for one in found)
    assert files <= 7
