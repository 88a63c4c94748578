"""Entities by their characters, as annotation tools export them and as `predict` writes them, are all read alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.tagging.reader import lacks_tags, read_tagged

TEXT = "Anna lives in New Delhi."
SPANS = [(0, 4, "PER"), (14, 23, "LOC")]


def studio(text: str, spans: list[tuple[int, int, str]]) -> dict[str, Any]:
    """A task of Label Studio's JSON export, with a cancelled annotation and a choice that is no entity."""
    values = [{"start": a, "end": b, "text": text[a:b], "labels": [kind]} for a, b, kind in spans]
    results = [{"type": "labels", "from_name": "label", "value": value} for value in values]
    results.append({"type": "choices", "from_name": "topic", "value": {"choices": ["travel"]}})
    annotations = [{"was_cancelled": True, "result": results[:1]}, {"was_cancelled": False, "result": results}]
    return {"id": 1, "data": {"text": text}, "annotations": annotations, "predictions": []}


FORMS: dict[str, Any] = {
    "Label Studio": studio,
    "Label Studio, JSON-MIN": lambda text, spans: {
        "id": 1,
        "text": text,
        "label": [{"start": a, "end": b, "text": text[a:b], "labels": [kind]} for a, b, kind in spans],
    },
    "spaCy": lambda text, spans: {
        "text": text,
        "ents": [{"start": a, "end": b, "label": kind} for a, b, kind in spans],
        "tokens": [{"id": n, "start": n, "end": n + 1} for n in range(3)],
    },
    "spaCy, training data": lambda text, spans: {"text": text, "entities": [list(span) for span in spans]},
    "Prodigy": lambda text, spans: {
        "text": text,
        "spans": [{"start": a, "end": b, "label": kind, "token_start": 0, "token_end": 0} for a, b, kind in spans],
        "answer": "accept",
    },
    "doccano": lambda text, spans: {"id": 4, "text": text, "label": [list(span) for span in spans]},
    "predict": lambda text, spans: {
        "text": text,
        "entities": [
            {"type": kind, "text": text[a:b], "start": a, "end": b, "probability": 0.9} for a, b, kind in spans
        ],
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("as_array", [False, True])
def test_entities_of_tools_are_read_alike(form: str, as_array: bool, tmp_path: Path) -> None:
    rows = [FORMS[form](TEXT, SPANS), FORMS[form]("Nobody came.", [])]
    file = tmp_path / ("export.json" if as_array else "export.jsonl")
    file.write_text(json.dumps(rows) if as_array else "".join(json.dumps(row) + "\n" for row in rows))
    found = read_tagged(file, ColumnsConfig())
    assert found.counts.tolist() == [6, 3]
    assert found.words == ["Anna", "lives", "in", "New", "Delhi", ".", "Nobody", "came", "."]
    tags = [found.names[tag] for tag in found.tags]
    assert tags == ["B-PER", "O", "O", "B-LOC", "I-LOC", "O", "O", "O", "O"]
    assert not lacks_tags(file, ColumnsConfig())
