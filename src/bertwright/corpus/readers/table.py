"""The one table reader: a .tsv, .csv, .jsonl, .json, .parquet or .arrow file becomes rows, columns of text, or texts.

open_table    typed columns of a labelled file, whole
read_table    the same as text: labels, texts, numbers
TableStream   some columns as text, a piece at a time: files may be larger than memory
read_rows     typed rows, a piece at a time: what the others and the corpus are made of
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from bertwright.corpus.readers.cells import (
    PADDING,
    Kind,
    are_written_lists,
    as_label,
    as_texts,
    join_words,
    kind_of,
)
from bertwright.corpus.readers.columnar import arrow_head, arrow_rows, parquet_head, parquet_rows
from bertwright.corpus.readers.delimited import delimited_head, delimited_rows
from bertwright.corpus.readers.formats import format_of
from bertwright.corpus.readers.json_rows import json_head, json_rows
from bertwright.corpus.readers.remote import TextFile, size_of
from bertwright.corpus.readers.rows import TableOptions, TableRows
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note_once

EXPECTED = ".tsv, .csv, .jsonl, .json, .parquet or .arrow"


@dataclass(frozen=True)
class Table:
    """The columns of a labelled file, all as text; a column of a file without a header is called by its number.

    kinds  what a column holds, where it is not text: see `cells.Kind`
    """

    path: Path
    columns: dict[str, list[str]]
    kinds: dict[str, Kind] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values()), []))

    def texts(self, name: str) -> list[str]:
        """Return a column as texts, lists of words joined by blanks, which a note says.

        Raises CorpusError where the column holds other lists, or objects.
        """
        cells, where = self.columns[name], f"the column {name!r} of {self.path}"
        if self.kinds.get(name) == "object":
            raise CorpusError(f"{where} holds objects ({_short(cells)}), not texts; write what is in them as columns")
        if self.kinds.get(name) != "list" and not are_written_lists(cells):
            return cells
        joined = join_words(cells, where=where)
        note_once(f"{where} holds lists of words; they are joined by blanks")
        return joined

    def labels(self, name: str) -> list[str]:
        """Return a column as names of labels: see `as_label`; lists, as JSON writes them, stay as they are."""
        cells = self.columns[name]
        if self.kinds.get(name) == "object":
            raise CorpusError(f"the column {name!r} of {self.path} holds objects ({_short(cells)}), not labels")
        return cells if self.kinds.get(name) == "list" else [as_label(cell) for cell in cells]


def _short(cells: Sequence[str]) -> str:
    return next((cell for cell in cells if cell), "")[:60]


def read_head(path: TextFile, options: TableOptions) -> pa.Table:
    """Return the first rows of a table, with the types of its columns; no columns where the file is empty."""
    kind = format_of(path)
    if kind == "json":
        return json_head(path, options)
    if kind in ("parquet", "arrow"):
        return parquet_head(path) if kind == "parquet" else arrow_head(path)
    return delimited_head(path, options)


def read_rows(
    path: TextFile, options: TableOptions, columns: Sequence[str] | None = None, *, head: pa.Table, whole: bool = False
) -> Iterator[TableRows]:
    """Yield the rows of a table, all columns or some, a piece at a time; `head` is what `read_head` returned.

    With `whole` types hold for the whole file, which is in memory at once. Raises CorpusError where it is damaged.
    """
    kind = format_of(path)
    if kind == "json":
        return json_rows(path, options, columns, head=head, whole=whole)
    if kind in ("parquet", "arrow"):
        return parquet_rows(path, columns) if kind == "parquet" else arrow_rows(path, columns)
    return delimited_rows(path, options, columns, whole=whole)


def read_table(
    path: Path, *, names: Collection[str], given: Collection[str] = (), one_column: bool = False,
    encoding: str | None = None,
) -> Table:  # fmt: skip
    """Return the columns of a file of a known suffix (also with .gz, .zst or .bz2); empty cells are empty texts.

    `names` and `given` are column names that give a header away; `one_column` allows a file of one column. In
    tab-separated files a quotation mark is itself, as in GLUE; in others it encloses cells. Raises CorpusError where
    the file is missing, no table, empty or ragged.
    """
    table = open_table(path, names=names, given=given, one_column=one_column, encoding=encoding)
    columns = {str(name): as_texts(table.column(place)) for place, name in enumerate(table.column_names)}
    kinds = {one.name: kind_of(one.type) for one in table.schema if kind_of(one.type) != "text"}
    return Table(path, columns, kinds)


def open_table(
    path: Path, *, names: Collection[str], given: Collection[str] = (), one_column: bool = False,
    encoding: str | None = None,
) -> pa.Table:  # fmt: skip
    """Return a file as `read_table` does, with the types its columns have in it; raises CorpusError."""
    refuse_missing(path, f"{EXPECTED} file")
    if format_of(path) is None:
        raise CorpusError(f"{path} is of no format that can be read; expected {EXPECTED}")
    options = TableOptions(frozenset(names), frozenset(given), one_column=one_column, encoding=encoding)
    head = read_head(path, options)
    pieces = [rows.table for rows in read_rows(path, options, head=head, whole=True)]
    table = pa.concat_tables(pieces, promote_options="permissive") if pieces else pa.table({})
    if not table.num_rows:
        held = "holds no rows" if head.num_columns else "is empty"
        raise CorpusError(f"{path} {held}; give a file with labelled examples")
    return table


@dataclass(frozen=True)
class Start:
    """The first rows of a table as text, and the names of the columns that hold text, by their type."""

    table: Table
    texts: frozenset[str]


Choose = Callable[[Start], tuple[str, ...]]
"""Chooses which columns to read from the first rows of a table."""


class TableStream:
    """Some columns of a table, a piece at a time: a list of cells for each of them, empty ones as empty texts.

    >>> # needs a file
    >>> list(TableStream(Path("pairs.tsv"), lambda start: ("sentence1", "sentence2"), options))  # doctest: +SKIP
    [(['It rains.', 'Yes.'], ['It pours.', 'No.'])]
    """

    def __init__(self, path: Path, choose: Choose, options: TableOptions) -> None:
        """Open nothing yet."""
        self.path, self.choose, self.options = path, choose, options
        self.progress: float | None = None
        """How much of the file has been read, 0 to 1; None before that."""

    def __iter__(self) -> Iterator[tuple[list[str], ...]]:
        """Yield pieces; raises CorpusError where the file is missing or damaged, and what `choose` raises."""
        refuse_missing(self.path, alternative=", or - for stdin")
        head = read_head(self.path, self.options)
        if not head.num_columns or (format_of(self.path) in ("parquet", "arrow") and not head.num_rows):
            raise CorpusError(f"{self.path} is empty; give a file with texts")
        start = start_of(self.path, head)
        columns, size, given = self.choose(start), max(1, size_of(self.path)), 0
        for name in columns:
            _refuse_textless(head, name, self.path)
        for rows in read_rows(self.path, self.options, columns, head=head):
            self.progress = min(1.0, rows.position / size)
            given += len(rows.table)
            yield tuple(text_cells(rows.table, name, start, self.path) for name in columns)
        if not given and format_of(self.path) == "json":
            raise CorpusError(f"{self.path} is empty; give a file with texts")


def _refuse_textless(head: pa.Table, name: str, path: Path) -> None:
    """Raise UsageError where a column has no text; digits between separators are text."""
    kind = head.schema.field(name).type
    if kind_of(kind) in ("number", "other") and not pa.types.is_null(kind) and format_of(path) not in ("csv", "tsv"):
        raise UsageError(f"the column {name!r} of {path} holds no text; name another with --text-column")


def start_of(path: Path, head: pa.Table) -> Start:
    """Return the first rows of a table as text."""
    kinds = {one.name: kind_of(one.type) for one in head.schema}
    cells = {name: as_texts(head.column(name)) for name in head.column_names}
    lists = {name for name, kind in kinds.items() if kind == "list" and _are_words(head.schema.field(name).type)}
    texts = {name for name, kind in kinds.items() if kind == "text"} | lists
    return Start(Table(path, cells, {name: kind for name, kind in kinds.items() if kind != "text"}), frozenset(texts))


def _are_words(kind: pa.DataType) -> bool:
    return kind_of(kind.value_type) == "text"


def text_cells(rows: pa.Table, name: str, start: Start, path: TextFile) -> list[str]:
    """Return a column of some rows as texts; raises CorpusError where it holds objects or lists of other things."""
    cells = as_texts(rows.column(name))
    if start.table.kinds.get(name) in (None, "number") and not are_written_lists(start.table.columns[name]):
        return cells
    return Table(Path(str(path)), {name: cells}, start.table.kinds).texts(name)


def refuse_missing(path: Path, kind: str = "text file or table", *, alternative: str = "") -> None:
    """Raise CorpusError where `path` is a folder or does not exist; `kind` and `alternative` are what to give."""
    if path.is_dir():
        raise CorpusError(f"{path} is a folder; give a {kind}{alternative}")
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a {kind} that exists{alternative}")


def choose_text_column(start: Start, given: str | None, *, usual: Sequence[str], flag: str) -> str:
    """Return the column of text: the one given, else one of a usual name, else the only one that holds text.

    `flag` is what names a column. Raises UsageError for a wrong name and CorpusError where none is clear.
    """
    path, names = start.table.path, ", ".join(start.table.columns) or "none"
    if given is not None:
        if given not in start.table.columns:
            raise UsageError(f"{path} has no column {given!r}; give {flag} a name among its columns, which are {names}")
        return given
    lower = {name.strip(PADDING).lower(): name for name in reversed(start.table.columns) if name in start.texts}
    named = next((lower[name] for name in usual if name in lower), None)
    if named is None and len(lower) == 1:
        named = next(iter(lower.values()))
    if named is None:
        raise CorpusError(
            f"cannot tell which column of {path} is the text (its columns are {names}); name it with {flag}"
        )
    return named
