"""Parallel text by two names, a prefix or a table; unequal or one-sided files are refused in a sentence."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest

from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.translation.reader import SidesConfig, lines_of_side, parallel_files, read_parallel

NONE = SidesConfig()
BOTH = SidesConfig(source="en", target="de")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.en").write_text("one\n\ntwo \u2028 lines\r\nthree\n", encoding="utf-8")
    (tmp_path / "a.de").write_text("eins\nnichts\nzwei\n \n", encoding="utf-8")
    return tmp_path


def test_two_names_and_a_prefix_are_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = read_parallel(Path(f"{folder}/a.en,{folder}/a.de"), NONE)
    assert (named.first, named.second) == (["one", "two \u2028 lines"], ["eins", "zwei"])
    assert re.search("2 pairs.*2 with an empty", capsys.readouterr().err)
    prefixed = read_parallel(folder / "a", BOTH)
    assert (prefixed.first, prefixed.second) == (named.first, named.second)
    assert read_parallel(folder / "a", SidesConfig(source="de", target="en")).first == named.second


def test_compressed_files(folder: Path) -> None:
    (folder / "b.en.gz").write_bytes(gzip.compress("ä\n".encode()))
    assert lines_of_side(folder / "b.en.gz") == ["ä"]


@pytest.mark.parametrize(
    ("name", "text", "sides"),
    [
        ("t.tsv", "source\ttarget\none\teins\n", NONE),
        ("t.tsv", "target\tid\tsource\neins\t1\tone\n", NONE),
        ("t.csv", "de,en\neins,one\n", BOTH),
        ("t.jsonl", '{"src": "one", "tgt": "eins"}\n', NONE),
        ("t.tsv", "one\teins\n", NONE),
    ],
)
def test_tables(tmp_path: Path, name: str, text: str, sides: SidesConfig) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    pairs = read_parallel(tmp_path / name, sides)
    assert (pairs.first, pairs.second) == (["one"], ["eins"])


def test_what_cannot_be_told(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"a\.de, a\.en.*--source de --target en"):
        parallel_files(folder / "a", NONE)
    with pytest.raises(UsageError, match=r"no file.*SOURCE_FILE,TARGET_FILE"):
        parallel_files(folder / "b", NONE)
    (folder / "t.tsv").write_text("a\tb\tc\nx\ty\tz\n")
    with pytest.raises(UsageError, match=r"t\.tsv.*source.*target"):
        read_parallel(folder / "t.tsv", NONE)
    with pytest.raises(UsageError, match="'en'"):
        read_parallel(folder / "t.tsv", BOTH)


def test_unequal_files(folder: Path) -> None:
    (folder / "a.de").write_text("eins\n")
    with pytest.raises(CorpusError, match=r"a\.en.*4 lines.*a\.de 1"):
        read_parallel(folder / "a", BOTH)
    (folder / "a.de").write_bytes(b"\0\n")
    with pytest.raises(CorpusError, match=r"a\.de.*NUL.*byte 0"):
        read_parallel(folder / "a", BOTH)
