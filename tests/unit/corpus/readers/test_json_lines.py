"""Values that nest too deeply are found before a parser recurses into them; brackets within texts do not count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertwright.corpus.readers import json_lines as nesting
from bertwright.corpus.readers.json_lines import DEEPEST, depth_of, refuse_nested
from bertwright.corpus.readers.table import read_table
from bertwright.errors import CorpusError
from bertwright.tasks.stream import stream_texts


def nested(depth: int, *, before: str = "") -> str:
    return json.dumps({"text": f"{before} a"})[:-1] + ', "label": ' + "[" * depth + "]" * depth + "}\n"


@pytest.mark.parametrize(
    ("data", "depth"),
    [
        (b"", 0), (b"1", 0), (b"{}", 1), (b"[[], [[1]], {}]", 3), (b"[] [] [[", 2), (b'["[[["]', 1), (b'["\\"[[["]', 1),
        (b'["\\\\", [[]]]', 3), (b'["\\\\\\"[", [[]]]', 3), (b'{"a]": {"b}]": {"c": "}}}"}}}', 3), (b'[""[', 2),
    ],
)  # fmt: skip
def test_depths(data: bytes, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert depth_of(data) == depth
    monkeypatch.setattr(nesting, "PIECE", 2)
    assert depth_of(data) == depth


@pytest.mark.parametrize("before", ["", "]" * 50_000, '\\" ]]]]', "[" * 300])
@pytest.mark.parametrize("depth", [DEEPEST, 20_000, 1_000_000])
def test_files_that_nest_too_deeply_are_refused(tmp_path: Path, before: str, depth: int) -> None:
    (tmp_path / "a.jsonl").write_text(nested(3) + nested(depth, before=before))
    with pytest.raises(CorpusError, match="100 deep"):
        read_table(tmp_path / "a.jsonl", names={"text"})
    assert [text[-2:] for piece in stream_texts(tmp_path / "a.jsonl") for text in piece] == [" a", " a"]


def test_lines_that_break_within_values_hide_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": ' + "[\n" * 20_000 + "]\n" * 20_000 + "}\n")
    with pytest.raises(CorpusError, match="nested"):
        read_table(tmp_path / "a.jsonl", names={"text"})


def test_brackets_within_texts_are_no_levels(tmp_path: Path) -> None:
    texts = ["[" * 300, '{"[' * 200, "a\\", "]" * 9]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text, "label": "x"}) + "\n" for text in texts))
    assert read_table(tmp_path / "a.jsonl", names={"text"}).columns["text"] == texts
    refuse_nested(nested(DEEPEST - 1).encode(), tmp_path)
