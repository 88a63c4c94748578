"""Turns what was typed as INPUT (files, folders, globs, addresses) into text files, and names what is passed over.

The format is found by the suffix (.txt .md .jsonl .ndjson .json .csv .tsv .parquet .arrow .xml) before an optional .gz,
.zst or .bz2; an .xml is a Wikipedia dump. An address such as s3://bucket/texts names files elsewhere: see
remote.py.
"""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bertwright.corpus.builtin import PYTHON_DOCS, write_python_docs
from bertwright.corpus.readers.blocks import open_text
from bertwright.corpus.readers.formats import FORMATS, format_of
from bertwright.corpus.readers.remote import TextFile, is_address, remote_files, size_of
from bertwright.errors import CorpusError, InputError
from bertwright.files import read_json, safe_join
from bertwright.log import note

NAMED = 5
"""So many files that are passed over are named."""


class Inputs(NamedTuple):
    """The text files of a call, and the files of folders and globs that are of no format that can be read."""

    files: list[TextFile]
    skipped: list[Path]


def find_inputs(inputs: Sequence[str]) -> Inputs:
    """Return the text files named by `inputs`: files, folders (searched whole), globs and addresses, each file once.

    Inside a folder, hidden files and files of other formats are passed over, the latter named, and files come in the
    order of their names; a folder that Hugging Face `datasets` saved gives the files it names. Empty files hold nothing
    and are left out. Raises CorpusError where an input is
    missing, of no known format, empty, or a folder without text files.
    """
    found: dict[TextFile, None] = {}
    skipped: dict[Path, None] = {}
    for name in inputs:
        of_name = _files_of(name)
        found.update(dict.fromkeys(of_name.files))
        skipped.update(dict.fromkeys(of_name.skipped))
    if not found:
        raise CorpusError("no input was given; name at least one text file, folder or glob")
    held = [path for path in found if not (isinstance(path, Path) and size_of(path) == 0)]
    if not held:
        raise CorpusError(f"{', '.join(inputs)} holds no text: every file is empty (0 bytes); give files with text")
    return Inputs(held, list(skipped))


def find_texts(names: Sequence[str], folder: Path) -> Inputs:
    """Return the text files that inputs name, as `find_inputs` does; a builtin corpus is written to `folder`."""
    others = [name for name in names if name != PYTHON_DOCS]
    found = find_inputs(others) if others or not names else Inputs([], [])
    found.files.extend([write_python_docs(folder)] if PYTHON_DOCS in names else [])
    return found


def describe_skipped(skipped: Sequence[Path]) -> str:
    """Return a sentence that names and counts files that are not read, empty where there are none.

    >>> describe_skipped([Path("a.html"), Path("b.html"), Path("c.pdf")])
    '3 files are of no format that can be read and are left out: 2 .html, 1 .pdf (a.html, b.html, c.pdf)'
    """
    if not skipped:
        return ""
    names = ", ".join(str(path) for path in skipped[:NAMED]) + (", ..." if len(skipped) > NAMED else "")
    files = (
        "1 file is of no format that can be read and is"
        if len(skipped) == 1
        else (f"{len(skipped):,} files are of no format that can be read and are")
    )
    return f"{files} left out: {count_by_suffix(skipped)} ({names})"


def count_by_suffix(files: Sequence[Path]) -> str:
    """Return how many files there are of each suffix, the most common first.

    >>> count_by_suffix([Path("a.pdf"), Path("b.html"), Path("c.html")])
    '2 .html, 1 .pdf'
    """
    counts = Counter(path.suffix.lower() or "without a suffix" for path in files)
    return ", ".join(f"{count:,} {suffix}" for suffix, count in counts.most_common())


def _files_of(name: str) -> Inputs:
    if is_address(name) and not name.startswith("file://"):
        remote = remote_files(name, lambda file: format_of(file) is not None)
        if not remote:
            raise CorpusError(f"{name} names no text files; expected {_known_suffixes()}")
        return Inputs(list(remote), [])
    name = name.removeprefix("file://")
    path = Path(name)
    if path.is_dir():
        found = _files_under(path)
        if not found.files:
            raise CorpusError(f"the folder {name} holds no text files; expected {_known_suffixes()}{_instead(found)}")
        return found
    if path.is_file():
        if format_of(path) is None:
            raise CorpusError(f"{name} is of no format that can be read; expected {_known_suffixes()}")
        return Inputs([path], [])
    matches = sorted(glob.glob(name, recursive=True))
    if not matches:
        raise CorpusError(f"the input {name} does not exist; check the path, or quote the glob")
    known = Inputs([], [])
    for match in map(Path, matches):
        is_known = not match.is_dir() and format_of(match) is not None
        part = _files_under(match) if match.is_dir() else Inputs([match] * is_known, [match] * (not is_known))
        known.files.extend(part.files)
        known.skipped.extend(part.skipped)
    if not known.files:
        raise CorpusError(f"{name} matches no text files; expected {_known_suffixes()}{_instead(known)}")
    return known


def _instead(found: Inputs) -> str:
    return f"; {describe_skipped(found.skipped)}" if found.skipped else ""


def _files_under(folder: Path) -> Inputs:
    """Return the text files below a folder, hidden files and folders passed over, in the order of their names."""
    named = dataset_files(folder)
    if named is not None:
        return Inputs(list(named), [])
    found = Inputs([], [])
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        shown = sorted(name for name in names if not name.startswith("."))
        for path in (Path(root, name) for name in shown):
            (found.files if _is_text_file(path) else found.skipped).append(path)
    return found


def _is_text_file(path: Path) -> bool:
    """Return whether a file found in a folder holds text; of .xml files, only Wikipedia dumps do."""
    kind = format_of(path)
    if kind != "wikipedia":
        return kind is not None
    with open_text(path) as opened:
        return b"<mediawiki" in opened.stream.read(1 << 10)


def _known_suffixes() -> str:
    return f"{', '.join(FORMATS)}, each plain, .gz, .zst or .bz2"


def dataset_files(folder: Path) -> list[Path] | None:
    """Return the Arrow files of a dataset folder, or None where the folder is none.

    Of several splits only "train" is taken, where there is one, so that no test set is trained on unasked; a note says
    which are left out. Raises CorpusError where a file that it names is absent or outside of it.
    """
    if (folder / "dataset_dict.json").is_file():
        return _files_of_splits(folder)
    if (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file():
        return _files_of_state(folder)
    return None


def _files_of_splits(folder: Path) -> list[Path]:
    splits = _part(folder / "dataset_dict.json", "splits")
    taken = ["train"] if "train" in splits else splits
    left_out = [str(split) for split in splits if split not in taken]
    if left_out:
        note(f"of the dataset {folder} the split train is read, not {', '.join(left_out)}; name {folder}/SPLIT for one")
    files = [file for split in taken for file in _files_of_state(_member(folder, split))]
    if not files:
        raise CorpusError(f"the dataset {folder} has no splits; save it again with save_to_disk")
    return files


def _files_of_state(folder: Path) -> list[Path]:
    entries = _part(folder / "state.json", "_data_files")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries]
    files = [_member(folder, name) for name in names]
    absent = next((file for file in files if not file.is_file()), None)
    if absent is not None:
        raise CorpusError(f"the dataset {folder} lacks {absent.name}, which its state.json names; fetch it again")
    return files


def _part(path: Path, name: str) -> list[Any]:
    """Return the list under `name` of a JSON object, or raise CorpusError."""
    try:
        value = read_json(path)[name]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorpusError(f"{path} is damaged or absent ({error!r}); save the dataset again") from error
    if not isinstance(value, list):
        raise CorpusError(f'{path} is damaged ("{name}" is no list); save the dataset again with save_to_disk')
    return value


def _member(folder: Path, name: Any) -> Path:
    try:
        return safe_join(folder, name)
    except InputError as error:
        raise CorpusError(f"the dataset {folder} cannot be read: {error}") from error
