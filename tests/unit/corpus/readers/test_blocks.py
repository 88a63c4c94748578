"""The door of every reader: compressed files whole and padded, files that are something else, halves of characters."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path

import pytest
import zstandard

from bertwright.corpus.readers import blocks
from bertwright.corpus.readers.blocks import read_text
from bertwright.corpus.readers.characters import (
    parse_json,
    replace_surrogate_bytes,
    replace_surrogate_escapes,
    replace_surrogates,
)
from bertwright.errors import CorpusError


def test_all_members_of_a_compressed_file_are_read_and_padding_is_not(tmp_path: Path) -> None:
    parts = [f"part {number}\n".encode() * 30_000 for number in range(3)]
    for suffix, compress in ((".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstandard.compress)):
        (tmp_path / f"a.txt{suffix}").write_bytes(b"".join(map(compress, parts)))
        assert read_text(tmp_path / f"a.txt{suffix}").encode() == b"".join(parts)
    for padding in (b"\0", b"\0" * 511, bytes(3 << 20)):
        (tmp_path / "p.txt.gz").write_bytes(gzip.compress(parts[0]) + padding)
        assert read_text(tmp_path / "p.txt.gz").encode() == parts[0]
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress(parts[0]) + padding + gzip.compress(parts[1]))
    assert read_text(tmp_path / "p.txt.gz").encode() == parts[0] + parts[1]
    (tmp_path / "p.txt.gz").write_bytes(gzip.compress(parts[0]) + b"rest")
    with pytest.raises(CorpusError, match="damaged"):
        read_text(tmp_path / "p.txt.gz")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.txt", b"PK\x03\x04\x14\x00", "zip"),
        ("a.csv", gzip.compress(b"text", mtime=0), r"gzip.*suffix"),
        ("a.jsonl", zstandard.compress(b"text"), "zstd"),
        ("a.txt", b"%PDF-1.7\n...", "PDF"),
        ("a.txt", b"\x89PNG\r\n\x1a\n", "PNG"),
        ("a.tsv", b"PAR1\x15\x04", "Parquet"),
        ("a.txt", b"\x80\x04\x95\x10", "pickle"),
        ("a.txt.gz", b"plain text\n", r"not compressed.*\.gz"),
        ("a.txt.gz", zstandard.compress(b"text"), r"zstd.*suffix"),
        ("a.txt.zst", b"PK\x03\x04\x14\x00", r"zip.*suffix"),
        ("a.txt.gz", gzip.compress(b"PK\x03\x04\x14\x00", mtime=0), "zip"),
        ("a.txt", b"text\0more", r"NUL.*byte 4.*UTF-16"),
    ],
)
def test_files_are_named_for_what_they_are(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CorpusError, match=message):
        read_text(tmp_path / name)


def test_text_that_begins_as_other_files_do_is_text(tmp_path: Path) -> None:
    for text in ("PAR1 is a gene\n", "BZh is no word\n", "GIF and PDF\n", "Rar is short\n", "{\\rt is TeX\n"):
        (tmp_path / "a.txt").write_text(text)
        assert read_text(tmp_path / "a.txt") == text


HALF, PAIR = "\ud83d", "\ud83d\ude00"


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_end_as_on_any_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """A carriage return alone is the end of a line where no line ends otherwise, in later blocks too."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 16)
    lines = [f"word{number}\tO" for number in range(9)]
    (tmp_path / "a.txt").write_bytes(end.join([*lines, ""]).encode("utf-8"))
    assert [line.removesuffix("\r") for line in read_text(tmp_path / "a.txt").split("\n")] == [*lines, ""]
    (tmp_path / "a.txt").write_bytes(b"a line\nwith a bar\rdrawn twice\n")
    assert read_text(tmp_path / "a.txt") == "a line\nwith a bar\rdrawn twice\n"


def test_halves_of_characters() -> None:
    assert replace_surrogates(f"a{HALF}b{PAIR}c\udc80") == "a\ufffdb\U0001f600c\ufffd"
    assert replace_surrogate_bytes(f"a{HALF}b{PAIR}".encode("utf-8", "surrogatepass")).decode() == "a\ufffdb\U0001f600"
    raw = rb'{"a": "\ud83d x \ud83d\ude00 \\ud83d \uDE00", "\ud83d": 1}'
    fixed = replace_surrogate_escapes(raw)
    assert len(fixed) == len(raw)
    assert json.loads(fixed) == parse_json(raw) == {"a": "\ufffd x \U0001f600 \\ud83d \ufffd", "\ufffd": 1}


def test_a_line_longer_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 100)
    monkeypatch.setattr(blocks, "LONGEST_DOCUMENT", 1000)
    (tmp_path / "a.txt").write_text("x" * 5000)
    with pytest.raises(CorpusError, match="document"):
        list(blocks.read_blocks(tmp_path / "a.txt"))
