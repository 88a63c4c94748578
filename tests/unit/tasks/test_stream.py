"""Texts come in the order of their rows, empty ones included, from every format and from stdin."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from bertwright.corpus.readers import blocks
from bertwright.corpus.readers.lines import STDIN, LineStream
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.stream import stream_texts

LINES = ["one", "", "two \u2028 still two", "  three\t", 'a "quoted" one']


def every(path: Path, column: str | None = None) -> list[str]:
    return [text for piece in stream_texts(path, column) for text in piece]


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_a_line_a_text(tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = ending.join([*LINES, ""]).encode()
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(data))
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(data))
    for name in ("a.txt", "a.txt.gz", "a.txt.zst"):
        assert every(tmp_path / name) == LINES
    (tmp_path / "b.txt").write_bytes(data.removesuffix(ending.encode()))
    assert every(tmp_path / "b.txt") == LINES
    for size in (5, 1000):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", size)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
        assert every(STDIN) == LINES


def test_lines_some_at_a_time_say_how_much_of_the_file_they_are(tmp_path: Path) -> None:
    file = tmp_path / "a.de"
    file.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    lines = LineStream(file, most=2)
    assert lines.progress is None
    seen = [(part, lines.progress) for part in lines]
    assert [len(part) for part, _ in seen] == [2, 2, 1]
    assert [line for part, _ in seen for line in part] == LINES
    assert [share for _, share in seen] == pytest.approx([0.4, 0.8, 1.0])


@pytest.mark.parametrize(
    ("name", "text", "column", "expected"),
    [
        ("a.tsv", 'id\ttext\n1\tsay "hm"\n2\t\n3\tc\n', None, ['say "hm"', "", "c"]),
        ("a.csv", 'label,sentence\n1,"a, b"\n0,\n1,"two\nlines"\n', None, ["a, b", "", "two\nlines"]),
        ("a.csv", "left,right\nx,y\nv,w\n", "right", ["y", "w"]),
        ("a.csv", "text\nx\n\ny\n", None, ["x", "", "y"]),
        ("a.csv", "\n\r\ntext\nx\n\ny\n", None, ["x", "", "y"]),
        ("a.tsv", "\nid\ttext\n1\tx\n", None, ["x"]),
        (
            "a.jsonl",
            '{"text": "x", "n": 1}\n{"n": 2}\n{"text": null, "n": 3}\n{"text": "y"}\n',
            None,
            ["x", "", "", "y"],
        ),
        ("a.jsonl", '{"a": "x", "b": 1}\n{"a": "2026-01-01", "b": 1}\n', None, ["x", "2026-01-01"]),
    ],
)
def test_a_row_a_text(tmp_path: Path, name: str, text: str, column: str | None, expected: list[str]) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert every(tmp_path / name, column) == expected
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    assert every(tmp_path / f"{name}.gz", column) == expected


def test_parquet(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"n": [1, 2, 3], "text": ["x", None, "y"]}), tmp_path / "a.parquet")
    assert every(tmp_path / "a.parquet") == ["x", "", "y"]
    with pytest.raises(UsageError, match=r"'n'.*text"):
        every(tmp_path / "a.parquet", "n")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(CorpusError, match="Parquet"):
        every(tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("name", "text", "column", "error", "message"),
    [
        (
            "a.tsv",
            "sentence1\tsentence2\nx\ty\n",
            None,
            CorpusError,
            r"which column.*sentence1, sentence2",
        ),
        ("a.tsv", "a\ttext\nx\ty\n", "b", UsageError, r"'b'.*a, text"),
        ("a.txt", "x\n", "text", UsageError, "--text-column"),
        ("a.pdf", "x\n", None, CorpusError, "format"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', None, CorpusError, r"line 2.*JSON"),
        (
            "a.csv",
            "a,text\n1,x\n2\n",
            None,
            CorpusError,
            r"row 3.*1 cells",
        ),
    ],
)
def test_unfit_input_is_one_sentence(
    tmp_path: Path, name: str, text: str, column: str | None, error: type[Exception], message: str
) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(error, match=message):
        every(tmp_path / name, column)
    with pytest.raises(CorpusError, match="no file"):
        every(tmp_path / f"no{name}")


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"fine\n\xff\xfe\x00bad\n")
    with pytest.raises(CorpusError, match=r"UTF-8.*byte 5"):
        every(tmp_path / "a.txt")
