"""Lists written into one cell come apart into their items, whoever wrote them; texts in brackets stay texts."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from bertwright.corpus.readers.cells import listed, tags_of, words_of

WORDS = ["New", "York's", 'a "b"', "\\", "\u00fc\n", 'it\'s "x"', ""]


@pytest.mark.parametrize(
    "write", [str, json.dumps, lambda words: str(np.array(words))], ids=["Python", "JSON", "numpy"]
)
def test_lists_of_words_come_apart(write: Callable[[list[str]], str]) -> None:
    assert listed(write(WORDS)) == WORDS
    assert listed(write(["a"])) == words_of(write(["a"])) == ["a"]
    assert listed(str([])) == []


@pytest.mark.parametrize(
    "text", ["[ O ]", "[sic] he said", "['a'", "['a' + 'b']", "[[1], [2]]", "[" * 5000 + "]" * 5000]
)
def test_other_texts_are_no_lists(text: str) -> None:
    assert listed(text) is None
    assert words_of("[ O ]") == ["[", "O", "]"]


def test_lists_that_stand_side_by_side_are_not_joined() -> None:
    assert listed("['good' 'film']") == ["good", "film"]
    assert words_of("[0 1\n 2]") == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["[1. 0. 1.]", "[1.0, 0.0, 1.0]", "[ 1.  0.e+00 1. ]", "[1 0 1]", "[+1, 0, 1]"])
def test_numbers_have_one_name_however_they_are_printed(text: str) -> None:
    assert words_of(text) == ["1", "0", "1"]


def test_truth_values_and_nothing_are_items() -> None:
    assert listed("[True False]") == listed("[True, False]") == listed("[true, false]") == [True, False]
    assert listed("['a', None]") == listed("['a' nan]") == listed('["a", null]') == ["a", None]
    assert listed("[" + "1" * 200_000 + "x]") is None


def test_tags_may_have_other_signs_between() -> None:
    assert tags_of("O B-X O", 3) == tags_of("O,B-X,O", 3) == tags_of("O; B-X; O", 3) == ["O", "B-X", "O"]
    assert tags_of("O,B-X", 3) == ["O,B-X"]
    assert tags_of("['O', 'B-X']", 3) == ["O", "B-X"]
