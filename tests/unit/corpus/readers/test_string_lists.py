"""Lists written into one cell come apart into their items, whoever wrote them; texts in brackets stay texts."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest

from bertwright.corpus.readers.cells import cell_words, list_items, tags_of

WORDS = ["New", "York's", 'a "b"', "\\", "\u00fc\n", 'it\'s "x"', ""]


@pytest.mark.parametrize(
    "write", [str, json.dumps, lambda words: str(np.array(words))], ids=["Python", "JSON", "numpy"]
)
def test_lists_of_words_come_apart(write: Callable[[list[str]], str]) -> None:
    assert list_items(write(WORDS)) == WORDS
    assert list_items(write(["a"])) == cell_words(write(["a"])) == ["a"]
    assert list_items(str([])) == []


@pytest.mark.parametrize(
    "text", ["[ O ]", "[sic] he said", "['a'", "['a' + 'b']", "[[1], [2]]", "[" * 5000 + "]" * 5000]
)
def test_other_texts_are_no_lists(text: str) -> None:
    assert list_items(text) is None
    assert cell_words("[ O ]") == ["[", "O", "]"]


def test_lists_that_stand_side_by_side_are_not_joined() -> None:
    assert list_items("['good' 'film']") == ["good", "film"]
    assert cell_words("[0 1\n 2]") == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["[1. 0. 1.]", "[1.0, 0.0, 1.0]", "[ 1.  0.e+00 1. ]", "[1 0 1]", "[+1, 0, 1]"])
def test_numbers_have_one_name_however_they_are_printed(text: str) -> None:
    assert cell_words(text) == ["1", "0", "1"]


def test_truth_values_and_nothing_are_items() -> None:
    assert list_items("[True False]") == list_items("[True, False]") == list_items("[true, false]") == [True, False]
    assert list_items("['a', None]") == list_items("['a' nan]") == list_items('["a", null]') == ["a", None]
    assert list_items("[" + "1" * 200_000 + "x]") is None


def test_tags_may_have_other_signs_between() -> None:
    assert tags_of("O B-X O", 3) == tags_of("O,B-X,O", 3) == tags_of("O; B-X; O", 3) == ["O", "B-X", "O"]
    assert tags_of("O,B-X", 3) == ["O,B-X"]
    assert tags_of("['O', 'B-X']", 3) == ["O", "B-X"]
