"""Turns the start of a table into what separates its cells, whether they are quoted, and its columns' names."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from statistics import median

from bertwright.corpus.readers.formats import plain_suffix
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import SAMPLE_ROWS, TableOptions
from bertwright.errors import CorpusError
from bertwright.log import note_once

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
SAMPLE_BYTES = 1 << 17
"""As much as Python's csv module takes for one cell."""
NEWLINE = re.compile(r"\r\n|\r|\n")
"""What ends a line of a table; Python's splitlines knows more, such as U+2028, which stand within texts."""
LONGEST_NAME = 40
ENDS_OF_TEXT = (".", "!", "?", "。", "！", "？")
"""What names of columns do not end in."""
FEW_VALUES = 20
"""A column of so few different values in the sample holds labels, not texts."""
MUCH_LONGER = 4
"""So many times as long as its name are the usual texts of a column."""
ROW_NUMBERS = ("", "Unnamed: 0")
"""What pandas calls the column of row numbers that it writes first."""


@dataclass(frozen=True)
class HeaderLayout:
    """How a table is written.

    separator  between cells         quoted   whether '"' encloses cells
    titles     of all its columns    header   whether they are its first row
    names      of the columns to read: all but pandas' row numbers
    """

    separator: str
    quoted: bool
    titles: list[str]
    header: bool
    names: list[str]
    rows: list[list[str]]


def layout_of_table(data: bytes, options: TableOptions, *, path: TextFile) -> HeaderLayout:
    """Return how a table is written, from its start.

    A note says so where the first row is taken for names that nobody knows. Raises what `find_separator` raises.
    """
    separator = find_separator(data, path=path, one_column=options.one_column)
    quoted = separator != "\t" or _tabs_are_quoted(data)
    rows = sample_rows(data, separator, quoted=quoted)
    header = _has_header(rows, options, path=path)
    titles = rows[0] if header else [str(place + 1) for place in range(len(rows[0]))]
    body = _below(rows) if header else rows
    drop = header and len(titles) > 1 and titles[0] in ROW_NUMBERS and _counts(row[0] for row in body)
    return HeaderLayout(separator, quoted, titles, header, titles[1:] if drop else titles, body)


def _has_header(rows: list[list[str]], options: TableOptions, *, path: TextFile) -> bool:
    given = {name for name in options.given if not name.isdigit()}
    if names_columns(rows, {name for name in options.names if not name.isdigit()} | given):
        return True
    if len(rows[0]) > 1 and rows[0][0] in ROW_NUMBERS and _counts(row[0] for row in _below(rows)):
        return True
    if (options.given - given) - set(rows[0]) or not looks_like_names(rows):
        return False
    note_once(f"{path}: its first row ({', '.join(rows[0])[:60]}) is taken for the names of its columns")
    return True


def _counts(cells: Iterable[str]) -> bool:
    """Return whether cells hold whole numbers, each once."""
    held = list(cells)
    return bool(held) and all(cell.isdecimal() for cell in held) and len(set(held)) == len(held)


def find_separator(data: bytes, *, path: TextFile, one_column: bool = False) -> str:
    """Return what separates cells: the separator that cuts the first row and most others into as many cells.

    Raises CorpusError where none does, unless it may be `one_column`. A .tsv file is cut at tabs if its first line has
    one.
    """
    first = NEWLINE.split(data[:SAMPLE_BYTES].decode(errors="ignore"), maxsplit=1)[0]
    if plain_suffix(path) == ".tsv" and (one_column or "\t" in first):
        return "\t"
    best, most = "", 0.0
    for separator in SEPARATORS:
        widths = [len(cells) for cells in sample_rows(data, separator)]
        alike = sum(width == widths[0] for width in widths) / len(widths) if widths[0] > 1 else 0.0
        if alike > most + 1e-9:
            best, most = separator, alike
    if not best and one_column:
        return ","
    if not best:
        raise CorpusError(
            f"{path} has one column only (no tab, comma, semicolon or bar in {first[:60]!r}); "
            "give texts and labels in columns"
        )
    return best


def _tabs_are_quoted(data: bytes) -> bool:
    """Return whether cells between tabs are quoted: their rows are alike only if '"' encloses cells.

    Elsewhere a quotation mark is itself, as in GLUE.
    """
    return not _are_alike(sample_rows(data, "\t")) and _are_alike(sample_rows(data, "\t", quoted=True))


def _are_alike(rows: list[list[str]]) -> bool:
    return len({len(row) for row in rows}) == 1


def names_columns(rows: list[list[str]], names: Collection[str]) -> bool:
    """Return whether a cell of the first row is one of `names`, and none of the values below it."""
    first, others = rows[0], _below(rows)
    known = (place for place, cell in enumerate(first) if cell.strip().lower() in names or cell in names)
    return any(all(first[place] != row[place] for row in others) for place in known)


def looks_like_names(rows: list[list[str]]) -> bool:
    """Return whether the first row seems to name the columns.

    It does where its cells may be names, and one stands above nothing but numbers, above a column of few values none
    of which it is, or above texts that are all much longer.
    """
    first, others = rows[0], _below(rows)
    if any(len(cell) > LONGEST_NAME or cell.rstrip().endswith(ENDS_OF_TEXT) for cell in first):
        return False
    for place, cell in enumerate(first):
        values = {row[place] for row in others}
        numbers = all(is_number(value) for value in values)
        few = len(values) <= FEW_VALUES and len(others) > 2 * len(values)
        if values and (not is_number(cell) if numbers else few and cell not in values):
            return True
    columns = [(cell, [row[place] for row in others]) for place, cell in enumerate(first)]
    if any(is_number(cell) or cell in values for cell, values in columns):
        return False
    return any(_is_far_shorter(cell, values) for cell, values in columns)


def _is_far_shorter(cell: str, values: list[str]) -> bool:
    """Return whether a cell is one word, and all the values are longer, most of them by far."""
    lengths = [len(value) for value in values if value]
    word = re.fullmatch(r"[^\W\d][\w-]*", cell.strip()) is not None
    return word and len(lengths) > 2 and len(cell) < min(lengths) and MUCH_LONGER * len(cell) <= median(lengths)


def _below(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows[1:] if len(row) == len(rows[0])]


def is_number(text: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def sample_rows(data: bytes, separator: str, *, quoted: bool | None = None) -> list[list[str]]:
    """Return the cells of the first rows of a table, blank lines and a last row that is cut off left out.

    `quoted` says whether '"' encloses cells; where it is not given, all do it but those between tabs.
    """
    text = data[:SAMPLE_BYTES].decode(errors="ignore")
    quoted = separator != "\t" if quoted is None else quoted
    every = (
        (cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if cells)
        if quoted
        else (line.split(separator) for line in NEWLINE.split(text) if line)
    )
    rows = list(islice(every, SAMPLE_ROWS))
    return rows[:-1] if 1 < len(rows) < SAMPLE_ROWS and len(data) > SAMPLE_BYTES else rows
