"""Inputs: which files an INPUT names, and what happens when it names none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bertwright.corpus.readers.formats import format_of
from bertwright.corpus.readers.inputs import describe_skipped, find_inputs
from bertwright.errors import CorpusError


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("some text\n")


def test_a_folder_gives_its_text_files_in_order_and_passes_over_the_others(tmp_path: Path) -> None:
    make(tmp_path, "b.txt", "a.jsonl.zst", "sub/c.MD", "photo.png", ".hidden.txt", ".git/d.txt", "README", "e.gz")
    (tmp_path / "empty.txt").touch()
    found = find_inputs([str(tmp_path)])
    assert [path.relative_to(tmp_path).as_posix() for path in found.files] == ["a.jsonl.zst", "b.txt", "sub/c.MD"]
    assert [path.name for path in found.skipped] == ["README", "e.gz", "photo.png"]
    output = describe_skipped(found.skipped)
    assert re.match(r"3 files.*1 without a suffix, 1 \.gz, 1 \.", output)
    assert "photo.png" in output
    assert describe_skipped([]) == ""


def test_files_and_globs_are_taken_once_each(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt", "deep/er/c.txt", "x.png")
    names = [str(tmp_path / "b.txt"), str(tmp_path / "*"), str(tmp_path / "**/c.txt")]
    assert [path.name for path in find_inputs(names).files] == ["b.txt", "a.txt", "c.txt"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "txt"),
        ("a.json.gz", "json"),
        ("a.ndjson", "json"),
        ("a.tsv.zst", "tsv"),
        ("a.gz", None),
        ("a.pdf", None),
    ],
)
def test_the_suffix_before_the_compression_tells_the_format(name: str, kind: str | None) -> None:
    assert format_of(Path(name)) == kind


def test_inputs_that_name_no_text_are_refused_with_the_reason(tmp_path: Path) -> None:
    make(tmp_path, "pictures/x.png", "notes.pdf")
    (tmp_path / "empty.txt").touch()
    cases = {
        "absent.txt": "does not exist",
        "pictures": "holds no text files",
        "notes.pdf": "no format that can be read",
        "*.png": "does not exist",
        "pictures/*": "matches no text files",
        "empty.txt": "every file is empty",
    }
    for name, reason in cases.items():
        with pytest.raises(CorpusError, match=reason) as caught:
            find_inputs([str(tmp_path / name)])
        assert name in str(caught.value)
    with pytest.raises(CorpusError, match="no input"):
        find_inputs([])
