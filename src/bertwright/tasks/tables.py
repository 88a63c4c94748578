"""Turns a .tsv, .csv, .jsonl or .parquet file into columns of text; separator and header are told from the content."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from bertwright.corpus.inputs import BLOCK_BYTES, format_of, joined, open_text, read_whole
from bertwright.corpus.layouts import fault_in
from bertwright.corpus.nesting import refuse_nested
from bertwright.corpus.tables import UNREADABLE
from bertwright.errors import CorpusError
from bertwright.log import note

SEPARATORS = {"\t": "tab", ",": "comma", ";": "semicolon", "|": "bar"}
SAMPLE_ROWS = 200
SAMPLE_BYTES = 1 << 17
"""As much as Python's csv module takes for one cell."""
NEWLINE = re.compile(r"\r\n|\r|\n")
"""What ends a line of a table; Python's splitlines knows more, such as U+2028, which stand within texts."""
ROW = re.compile(r"\brow (\d+)")
"""Where pyarrow says a JSON line is wrong."""
LONGEST_BLOCK = (1 << 31) - 1
"""Bytes that Arrow parses at once, so that a cell may be as long as the file."""
LONGEST_NAME = 40
ENDS_OF_TEXT = (".", "!", "?", "。", "！", "？")
"""What names of columns do not end in."""
FEW_VALUES = 20
"""A column of so few different values in the sample holds labels, not texts."""


@dataclass(frozen=True)
class Table:
    """The columns of a labelled file, all as text; a column of a file without a header is called by its number."""

    path: Path
    columns: dict[str, list[str]]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), []))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a text file that hold something; raises CorpusError where it is missing or no text."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a text file that exists")
    return [line.removesuffix("\r") for line in _whole(path).decode().split("\n") if line.strip()]


def read_table(path: Path, *, names: Collection[str], one_column: bool = False) -> Table:
    """Return the columns of a file of a known suffix (also with .gz or .zst); empty cells are empty texts.

    `names` are column names that give a header away; `one_column` allows a file of one column. In tab-separated files a
    quotation mark is itself, as in GLUE; in others it encloses cells. Raises CorpusError where the file is missing, no
    table, empty or ragged.
    """
    table = open_table(path, names=names, one_column=one_column)
    columns = {str(name): as_texts(table.column(place)) for place, name in enumerate(table.column_names)}
    return Table(path, columns)


def open_table(path: Path, *, names: Collection[str], one_column: bool = False) -> pa.Table:
    """Return a file as `read_table` does, with the types its columns have in it; raises CorpusError."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a .tsv, .csv, .jsonl or .parquet file that exists")
    kind = format_of(path)
    if kind is None:
        raise CorpusError(f"{path} is of no format that can be read; expected .tsv, .csv, .jsonl or .parquet")
    table = READERS[kind](path) if kind in READERS else _read_delimited(path, names, one_column=one_column)
    twice = next((name for name, count in Counter(table.column_names).items() if count > 1), None)
    if twice is not None:
        raise CorpusError(f"{path} has two columns called {twice!r}; rename one")
    if not table.num_rows:
        raise CorpusError(f"{path} holds no rows; give a file with labelled examples")
    return table


def as_texts(column: pa.ChunkedArray) -> list[str]:
    """Return a column as text; numbers as short as they can be written, lists as JSON, null as the empty text."""
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [json.dumps(cell, ensure_ascii=False) if cell else "" for cell in column.to_pylist()]
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind):
        column = column.cast(pa.string())
    elif not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        try:
            column = column.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return ["" for _ in range(len(column))]
    texts: list[str] = pc.fill_null(column, "").to_pylist()
    return texts


def _whole(path: Path) -> bytes:
    """Return a text file in UTF-8; raises CorpusError where it is none."""
    data = read_whole(path)
    fault = fault_in(data)
    if fault is not None:
        raise CorpusError(f"{path} is not UTF-8 text at byte {fault:,}; convert it to UTF-8")
    if not data.strip():
        raise CorpusError(f"{path} is empty; give a file with labelled examples")
    return data


def _read_delimited(path: Path, names: Collection[str], *, one_column: bool) -> pa.Table:
    data = _whole(path).lstrip(b"\r\n") + b"\n"
    separator, titles, header = tell_layout(data, names, path=path, one_column=one_column)
    ragged: list[Any] = []

    def remember(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            pa.BufferReader(data),
            read_options=pa.csv.ReadOptions(
                column_names=titles,
                skip_rows_after_names=int(header),
                use_threads=False,
                block_size=min(len(data) + 1, LONGEST_BLOCK),
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator,
                quote_char=False if separator == "\t" else '"',
                newlines_in_values=separator != "\t",
                invalid_row_handler=remember,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(titles, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid as error:
        raise CorpusError(_why_not(path, ragged, error, separator=SEPARATORS[separator])) from error


def _why_not(path: Path, ragged: list[Any], error: Exception, *, separator: str) -> str:
    if not ragged:
        return f"{path} cannot be read as a table ({error}); mend it"
    row, text = ragged[0], _whole(path).decode()
    found = re.search(rf"(?:^|\r|\n)({re.escape(row.text)})(?=\r|\n|$)", text)
    number = 1 + len(NEWLINE.findall(text, 0, found.start(1) if found else 0))
    return (
        f"{path} line {number:,} has {row.actual_columns} cells where {row.expected_columns} were expected "
        f"(separator: {separator}): {row.text[:60]!r}; mend that line"
    )


def tell_layout(data: bytes, names: Collection[str], *, path: Path, one_column: bool) -> tuple[str, list[str], bool]:
    """Return the separator of a table, the names of its columns, and whether they are its first row, from its start.

    It is said where the first row is taken for names nobody knows. Raises CorpusError as `tell_separator` does.
    """
    separator = tell_separator(data, path=path, one_column=one_column)
    rows = sample_rows(data, separator)
    header = names_columns(rows, {name for name in names if not name.isdigit()})
    if not header and looks_like_names(rows):
        header = True
        note(f"{path}: its first row ({', '.join(rows[0])[:60]}) is taken for the names of its columns")
    return separator, rows[0] if header else [str(place + 1) for place in range(len(rows[0]))], header


def tell_separator(data: bytes, *, path: Path, one_column: bool = False) -> str:
    """Return what separates cells: the separator that cuts the first row and most others into as many cells.

    Raises CorpusError where none does, unless it may be `one_column`. A .tsv file is cut at tabs if its first line has
    one.
    """
    first = NEWLINE.split(data[:SAMPLE_BYTES].decode(errors="ignore"), maxsplit=1)[0]
    tabs = path.name.removesuffix(".gz").removesuffix(".zst").lower().endswith(".tsv")
    if tabs and (one_column or "\t" in first):
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


def names_columns(rows: list[list[str]], names: Collection[str]) -> bool:
    """Say whether a cell of the first row is one of `names`, and none of the values below it."""
    first, others = rows[0], _below(rows)
    known = (place for place, cell in enumerate(first) if cell.strip().lower() in names or cell in names)
    return any(all(first[place] != row[place] for row in others) for place in known)


def looks_like_names(rows: list[list[str]]) -> bool:
    """Say whether the first row seems to name the columns.

    It does where its cells may be names, and one stands above nothing but numbers, or above a column of few values none
    of which it is.
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
    return False


def _below(rows: list[list[str]]) -> list[list[str]]:
    return [row for row in rows[1:] if len(row) == len(rows[0])]


def is_number(text: str) -> bool:
    """Say whether a cell holds a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def sample_rows(data: bytes, separator: str) -> list[list[str]]:
    """Return the cells of the first rows of a table, blank lines and a last row that is cut off left out."""
    text = data[:SAMPLE_BYTES].decode(errors="ignore")
    every = (
        (line.split("\t") for line in NEWLINE.split(text) if line)
        if separator == "\t"
        else (cells for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator) if cells)
    )
    rows = list(islice(every, SAMPLE_ROWS))
    return rows[:-1] if 1 < len(rows) < SAMPLE_ROWS and len(data) > SAMPLE_BYTES else rows


def _read_json(path: Path) -> pa.Table:
    data = _whole(path)
    refuse_nested(data, path)
    try:
        table = _json_table(data, {})
        # What looks like a date is taken for one; it is text like any other.
        dates = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
        return _json_table(data, dates) if dates else table
    except pa.ArrowInvalid as error:
        told = ROW.sub(lambda found: f"row {int(found[1]) + 1}", str(error))  # pyarrow counts from 0
        raise CorpusError(f"{path} is not one JSON object a line with the same keys ({told}); mend it") from error


def _json_table(data: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(data),
        read_options=pa.json.ReadOptions(use_threads=False, block_size=min(len(data) + 1, LONGEST_BLOCK)),
        parse_options=pa.json.ParseOptions(explicit_schema=pa.schema(list(types.items()))),
    )


def _read_parquet(path: Path) -> pa.Table:
    try:
        with open_text(path) as opened:
            data = joined(iter(lambda: opened.stream.read(BLOCK_BYTES), b""), path)
            table = pa.parquet.read_table(pa.BufferReader(data))
            table.validate(full=True)
            return table
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


READERS: dict[str, Callable[[Path], pa.Table]] = {"json": _read_json, "parquet": _read_parquet}
"""By format; the others are cut at a separator."""
