"""How predictions are shown: a table for each kind of them, translations a line each, an object a line as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import OutputExistsError
from bertwright.reports.predictions import shown, write_predictions

SPAN = {"start": 3, "end": 7, "probability": 0.75}
KINDS: list[tuple[dict[str, Any], list[str]]] = [
    ({"text": "a [MASK]", "predictions": [[["cat", 0.5], ["[unused3]", 0.25]]]}, ["cat", "50.0%", "[unused3]"]),
    ({"text": "[MASK] [MASK]", "predictions": [[["a", 0.5]], [["b", 0.25]]]}, ["mask 1 of 2", "b 25.0%"]),
    ({"first": "It rains.", "second": "It pours.", "next": 0.75}, ["It rains.", "yes", "75.0%"]),
    ({"text": "good", "label": "yes", "probability": 0.9, "probabilities": {}}, ["good", "yes", "90.0%"]),
    ({"text": "good", "labels": ["a", "b"], "probabilities": {"a": 0.9, "b": 0.6, "c": 0.1}}, ["a, b", "90.0%, 60.0%"]),
    ({"text": "good", "labels": [], "probabilities": {"a": 0.1}}, ["none"]),
    ({"first": "a", "second": "b", "score": 4.5}, ["a | b", "4.500"]),
    ({"first": "a", "second": "b", "similarity": 0.5}, ["a | b", "cosine", "0.500"]),
    ({"text": "In Oslo.", "entities": [{"type": "LOC", "text": "Oslo", **SPAN}]}, ["Oslo", "LOC", "3-7", "75.0%"]),
    ({"text": "x", "entities": []}, ["x", "none"]),
    ({"text": "x", "tags": [{"word": "Oslo", "tag": "B-LOC", "probability": 0.5}]}, ["Oslo", "B-LOC", "50.0%"]),
    ({"question": "Where?", "answer": "Oslo", **SPAN}, ["Where?", "Oslo", "3-7"]),
    ({"question": "Where?", "answer": "", **SPAN}, ["none"]),
    ({"context": "c", "choice": "second", "probability": 0.5}, ["c", "second", "50.0%"]),
    ({"text": "x", "emotion": "glad"}, ["emotion", "glad"]),
    ({"text": "long " * 100, "score": 1.0}, ["long l", "..."]),
]


@pytest.mark.parametrize(("prediction", "cells"), KINDS)
def test_every_kind_is_a_table(prediction: dict[str, Any], cells: list[str]) -> None:
    found = shown([prediction])
    assert found == [prediction]
    for cell in cells:
        assert cell in str(found)
    assert json.loads(found.to_json()) == prediction


def test_words_and_pairs_of_one_call_are_two_tables() -> None:
    text = str(shown([KINDS[0][0], KINDS[2][0], {"text": "", "predictions": []}]))
    assert "cat" in text
    assert "It pours." in text


def test_translations_are_lines_and_nothing_is_nothing() -> None:
    translations = [{"text": text, "translation": text.upper()} for text in ("[b]a\tb", "", "c")]
    assert str(shown(translations)).split("\n") == ["[B]A\tB", "", "C"]
    assert shown([]).blocks == ()


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    chunks = [[{"text": "é", "score": 1.0}], [{"text": "b", "score": 2.0}] * 2]
    assert write_predictions(chunks, file, file=None) == 3
    assert [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] == [*chunks[0], *chunks[1]]

    def broken() -> Any:
        yield chunks[0]
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        write_predictions(broken(), tmp_path / "other.jsonl", file=None)
    assert not (tmp_path / "other.jsonl").exists()
    with pytest.raises(OutputExistsError):
        write_predictions(chunks, tmp_path, file=None)
