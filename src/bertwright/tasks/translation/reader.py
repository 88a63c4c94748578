"""Turns parallel text into pairs: two files with equal numbers of lines, a prefix of two such files, or a table of two
columns.

Where a line is empty on either side the pair is left out, and how many were is noted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from bertwright.config import Section
from bertwright.corpus.readers.blocks import read_text
from bertwright.corpus.readers.formats import is_table
from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.columns import by_lower_name, first_known, refuse_missing_columns
from bertwright.tasks.examples import Examples
from bertwright.tasks.unlabelled import UnlabelledFile

COMMA = ","
"""Between the names of a source file and its target file."""
SOURCES = ("source", "src", "input", "text")
TARGETS = ("target", "tgt", "translation", "output", "reference")
"""Names of the columns of a table, in the order they are looked for."""


class SidesConfig(Section):
    """Which side is which, where the names of the files do not say it."""

    source: str | None = None
    """Suffix of the source files (PREFIX.en: en), or column of the source text in a table."""
    target: str | None = None
    """Suffix of the target files, or column of the target text."""
    encoding: str | None = None
    """How the characters of the files are written; detected where it is not given and not UTF-8."""


@dataclass(frozen=True)
class Parallel(Examples):
    """N pairs of texts: `second[n]` says what `first[n]` says."""

    first: list[str]
    second: list[str]

    def __len__(self) -> int:
        """Return N."""
        return len(self.first)

    def keys(self) -> list[str]:
        """Return the source of each pair."""
        return self.first

    def take(self, places: np.ndarray) -> Self:
        """Return the pairs at `places`, in that order."""
        chosen = places.tolist()
        return replace(self, first=[self.first[place] for place in chosen], second=[self.second[i] for i in chosen])


def read_parallel(given: Path, sides: SidesConfig) -> Parallel:
    """Return the pairs of what a call names, neither side of which is empty, and say how many there are.

    `given` is "train.en,train.de", the source first; a prefix "train" where `sides` has the suffixes of both; or a
    .tsv, .csv, .jsonl or .parquet file. Raises CorpusError where files are missing, no UTF-8, or of unequal numbers of
    lines, and UsageError where nothing says which side is which.
    """
    files = parallel_files(given, sides)
    first, second = (
        _columns(files[0], sides) if len(files) == 1 else (lines_of_side(file, sides.encoding) for file in files)
    )
    if len(first) != len(second):
        raise CorpusError(
            f"{files[0]} has {len(first):,} lines and {files[1]} {len(second):,}: line n of one should be the "
            "translation of line n of the other; make them equal"
        )
    kept = [place for place in range(len(first)) if first[place].strip() and second[place].strip()]
    if not kept:
        raise CorpusError(f"{given} holds no pair of texts; give lines with text on both sides")
    left_out = len(first) - len(kept)
    more = f"; {left_out:,} with an empty side left out" if left_out else ""
    note(f"{given}: {len(kept):,} pairs{more}")
    return Parallel(given, [first[place] for place in kept], [second[place] for place in kept])


def parallel_files(given: Path, sides: SidesConfig) -> list[Path]:
    """Return the source and the target file of what a call names, or one table; raises UsageError or CorpusError."""
    names = str(given).split(COMMA)
    if given.is_file():
        if not is_table(given):
            raise UsageError(
                f"{given} is one side alone; give both as {given}{COMMA}TARGET_FILE, or a table (to translate one "
                "side: bertwright predict)"
            )
        return [given]
    if len(names) == 2:
        files = [Path(name.strip()) for name in names]
    elif sides.source and sides.target:
        files = [Path(f"{given}.{side.removeprefix('.')}") for side in (sides.source, sides.target)]
    else:
        raise UsageError(_which(given))
    for file in files:
        if not file.is_file():
            raise CorpusError(f"there is no file {file}; give SOURCE{COMMA}TARGET files that exist")
    return files


def source_alone(given: Path, sides: SidesConfig) -> UnlabelledFile | None:
    """Return a file without a target side as what is to be translated; None where it has one."""
    if not given.is_file():
        return None
    if not is_table(given):
        return UnlabelledFile(given)
    named = {name for name in (sides.source, sides.target) if name}
    table = read_table(given, names={*SOURCES, *TARGETS}, given=named, one_column=True, encoding=sides.encoding)
    source = sides.source if sides.source in table.columns else _column(table, None, SOURCES)
    if sides.target in table.columns or _column(table, None, TARGETS) is not None:
        return None
    if source is None and len(table.columns) == 1:
        source = next(iter(table.columns))
    return UnlabelledFile(given, source) if source is not None and (sides.target or len(table.columns) == 1) else None


def _which(given: Path) -> str:
    found = sorted(file.name for file in given.parent.glob(f"{given.name}.*")) if given.parent.is_dir() else []
    if len(found) < 2:
        return f"there is no file {given}; give parallel text as SOURCE_FILE{COMMA}TARGET_FILE, or a table"
    suffixes = [name.removeprefix(f"{given.name}.") for name in found[:2]]
    return (
        f"which of {', '.join(found)} is the source? give --source {suffixes[0]} --target {suffixes[1]}, "
        f"or --source {suffixes[1]} --target {suffixes[0]}"
    )


def lines_of_side(file: Path, encoding: str | None = None) -> list[str]:
    """Return the lines of a text file (also .gz or .zst); only a line feed ends one, whatever else Unicode has."""
    lines = read_text(file, encoding).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.strip() for line in lines]


def _columns(file: Path, sides: SidesConfig) -> tuple[list[str], list[str]]:
    given = {name for name in (sides.source, sides.target) if name}
    table = read_table(file, names={*SOURCES, *TARGETS}, given=given, encoding=sides.encoding)
    source, target = _column(table, sides.source, SOURCES), _column(table, sides.target, TARGETS)
    if (source is None or target is None) and len(table.columns) == 2:
        one, other = table.columns
        source = source or (one if target != one else other)
        target = target or (other if source != other else one)
    if source is None or target is None or source == target:
        raise UsageError(
            f"which columns of {file} are source and target? it has {', '.join(table.columns)}; "
            "name them with --source and --target"
        )
    return [text.strip() for text in table.texts(source)], [text.strip() for text in table.texts(target)]


def _column(table: Table, given: str | None, usual: tuple[str, ...]) -> str | None:
    refuse_missing_columns(table.path, table.columns, (given,))
    return given or first_known(by_lower_name(table.columns), usual)
