"""Turns a file, or stdin, into its texts in order, a row a text, a piece at a time: files may be larger than memory.

Columns, separator and header are told as everywhere; an empty line or cell is an empty text, so that the n-th text is
that of the n-th row.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from bertwright.corpus.inputs import BLOCK_BYTES, Block, Format, format_of, read_blocks
from bertwright.corpus.layouts import fault_in
from bertwright.corpus.nesting import refuse_nested
from bertwright.corpus.tables import UNREADABLE
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SENTENCES, SINGLES
from bertwright.tasks.tables import SAMPLE_ROWS, Table, as_texts, sample_rows, tell_layout

STDIN = Path("-")
ROWS = 4096
"""Rows of Parquet read at a time."""


def stream_texts(path: Path, column: str | None = None) -> Iterator[list[str]]:
    """Yield the texts of a file some at a time, or of the lines of stdin where `path` is "-".

    `column` names the column of a table; None takes one called text, sentence ..., or the only one of text. Raises
    CorpusError where the file is missing, of no known format or damaged, and UsageError where it has no such column.
    """
    if path != STDIN:
        refuse_missing(path)
    if is_table(path):
        yield from (columns[0] for columns in TableStream(path, lambda start: (choose_column(start, column),), column))
    elif path != STDIN and format_of(path) not in ("txt", "md"):
        raise CorpusError(f"{path} is of no format that can be read; expected .txt, .tsv, .csv, .jsonl or .parquet")
    elif column is not None and path != STDIN:
        raise UsageError(f"{path} holds a text a line and has no columns; leave --text-column out")
    else:
        yield from LineStream(path)


def is_table(path: Path) -> bool:
    """Say whether a file's name tells a table: .tsv, .csv, .jsonl, .parquet, also compressed."""
    return path != STDIN and format_of(path) in READERS


def refuse_missing(path: Path) -> None:
    """Raise CorpusError where there is no such file."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a text file or table that exists, or - for stdin")


class LineStream:
    """The lines of a file or of stdin ("-"), empty ones too, at most `most` at a time.

    >>> list(LineStream(Path("news.txt"), most=2))
    [['One.', ''], ['Three.']]
    """

    def __init__(self, path: Path, *, most: int | None = None) -> None:
        """Open nothing yet."""
        self.path, self.most = path, most
        self.share: float | None = None
        """How much of the file has been given out, 0 to 1; None where nobody knows its size."""

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lines without their ends; raises CorpusError where the file is missing or no UTF-8 text."""
        if self.path != STDIN:
            refuse_missing(self.path)
        size, before = 0 if self.path == STDIN else self.path.stat().st_size, 0
        for block in checked(_stdin() if self.path == STDIN else read_blocks(self.path), self.path):
            lines = [line.removesuffix("\r") for line in block.data.decode().removesuffix("\n").split("\n")]
            step = self.most or len(lines)
            for begin in range(0, len(lines), step):
                done = min(1.0, (begin + step) / len(lines))
                self.share = (before + (block.position - before) * done) / size if size else None
                yield lines[begin : begin + step]
            before = block.position


def checked(blocks: Iterable[Block], path: Path) -> Iterator[Block]:
    """Yield blocks as they are; raises CorpusError, naming byte and line, at the first that is no UTF-8 text."""
    lines = 0
    for block in blocks:
        fault = fault_in(block.data)
        if fault is not None:
            name = "stdin" if path == STDIN else path
            line = lines + block.data.count(b"\n", 0, fault) + 1
            raise CorpusError(
                f"{name} is not UTF-8 text at byte {block.offset + fault:,} (line {line:,}); convert it to UTF-8"
            )
        yield block
        lines += block.data.count(b"\n")


@dataclass(frozen=True)
class Start:
    """The first rows of a table as text, and the names of the columns that hold text, by their type."""

    table: Table
    texts: frozenset[str]


Choose = Callable[[Start], tuple[str, ...]]
"""Tells which columns to read from the first rows of a table."""


class TableStream:
    """Some columns of a table, a piece at a time: a list of cells for each of them, empty ones as empty texts.

    >>> list(TableStream(Path("pairs.tsv"), lambda start: ("sentence1", "sentence2")))
    [(['It rains.', 'Yes.'], ['It pours.', 'No.'])]
    """

    def __init__(self, path: Path, choose: Choose, *told: str | None) -> None:
        """Open nothing yet; `told` are names of columns, which give a header away."""
        self.path, self.choose, self.told = path, choose, frozenset(name for name in told if name)
        self.share: float | None = None
        """How much of the file has been read, 0 to 1; None before that."""

    def __iter__(self) -> Iterator[tuple[list[str], ...]]:
        """Yield pieces; raises CorpusError where the file is missing or damaged, and what `choose` raises."""
        refuse_missing(self.path)
        return READERS[format_of(self.path)](self)

    def blocks(self) -> Iterator[Block]:
        """Yield the file in UTF-8, and keep count of how much of it that is."""
        size = max(1, self.path.stat().st_size)
        for block in checked(read_blocks(self.path), self.path):
            self.share = min(1.0, block.position / size)
            yield block


def choose_column(start: Start, told: str | None) -> str:
    """Return the column of text: the one told, else one of a usual name, else the only one that holds text.

    Raises UsageError for a wrong name and CorpusError where none is clear.
    """
    path, names = start.table.path, ", ".join(start.table.columns)
    if told is not None:
        if told not in start.table.columns:
            raise UsageError(f"{path} has no column {told!r}; its columns are {names}")
        return told
    lower = {name.strip().lower(): name for name in reversed(start.table.columns) if name in start.texts}
    named = next((lower[name] for name in SINGLES if name in lower), None)
    if named is None and len(lower) == 1:
        named = next(iter(lower.values()))
    if named is None:
        raise CorpusError(f"cannot tell which column of {path} is the text ({names}); name it with --text-column")
    return named


def _stdin() -> Iterator[Block]:
    """Yield stdin as blocks of whole lines."""
    rest, offset = b"", 0
    stdin = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())  # a notebook's has no bytes
    while data := stdin.read(BLOCK_BYTES):
        whole, mark, rest = (rest + data).rpartition(b"\n")
        if mark:
            yield Block(whole + mark, offset, 0)
            offset += len(whole) + 1
    if rest:
        yield Block(rest, offset, 0)


def _json(stream: TableStream) -> Iterator[tuple[list[str], ...]]:
    path, rows = stream.path, 0
    columns: tuple[str, ...] = ()
    for block in stream.blocks():
        if not block.data.strip():
            continue
        try:
            columns = columns or _first_of_json(stream, block)
            options = pa.json.ParseOptions(
                explicit_schema=pa.schema(dict.fromkeys(columns, pa.string())), unexpected_field_behavior="ignore"
            )
            table = pa.json.read_json(pa.BufferReader(block.data), read_options=_whole(block), parse_options=options)
            table.validate(full=True)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}, after row {rows:,}: not one JSON object with texts a line ({error})") from error
        rows += len(table)
        yield tuple(_filled(table[column]) for column in columns)
    if not columns:
        raise CorpusError(_no_rows(path))


def _first_of_json(stream: TableStream, block: Block) -> tuple[str, ...]:
    refuse_nested(block.data, stream.path)
    first = pa.json.read_json(pa.BufferReader(block.data), read_options=_whole(block))
    if "data" in first.column_names and pa.types.is_list(first.schema.field("data").type):
        raise CorpusError(
            f"{stream.path} is one JSON object with all its rows in it, as SQuAD is, and no table of texts; "
            "give .jsonl, an object a line"
        )
    return stream.choose(_start(stream.path, first))


def _whole(block: Block) -> pa.json.ReadOptions:
    return pa.json.ReadOptions(use_threads=False, block_size=len(block.data) + 1)


class _Blocks(io.RawIOBase):
    """Blocks of a file as a file that pyarrow reads."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.left, self.data = blocks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.data and (block := next(self.left, None)):
            self.data = memoryview(block.data)
        taken = min(len(buffer), len(self.data))
        buffer[:taken], self.data = self.data[:taken], self.data[taken:]
        return taken


def _delimited(stream: TableStream) -> Iterator[tuple[list[str], ...]]:
    path, blocks = stream.path, stream.blocks()
    first = next(blocks, None)
    if first is None or not first.data.strip():
        raise CorpusError(_no_rows(path))
    separator, titles, header = tell_layout(first.data, SENTENCES | stream.told, path=path, one_column=True)
    rows = [row for row in sample_rows(first.data, separator)[int(header) :] if len(row) == len(titles)]
    cells = {title: [row[place] for row in rows] for place, title in enumerate(titles)}
    columns = stream.choose(Start(Table(path, cells), frozenset(titles)))
    blank = len(first.data) - len(first.data.lstrip(b"\r\n"))
    try:
        reader = pa.csv.open_csv(
            io.BufferedReader(_Blocks(chain([first], blocks)), BLOCK_BYTES),
            read_options=pa.csv.ReadOptions(
                column_names=titles,
                skip_rows=first.data.count(b"\n", 0, blank) + 1 if header else 0,
                use_threads=False,
                block_size=BLOCK_BYTES,
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=separator,
                quote_char=False if separator == "\t" else '"',
                newlines_in_values=separator != "\t",
                ignore_empty_lines=len(titles) > 1,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=columns, column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
        for batch in reader:
            yield tuple(_filled(batch.column(place)) for place in range(len(columns)))
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} cannot be read as a table ({error}); mend it") from error


def _parquet(stream: TableStream) -> Iterator[tuple[list[str], ...]]:
    path = stream.path
    if path.suffix.lower() != ".parquet":
        raise CorpusError(f"{path} is a compressed Parquet file, which cannot be read in pieces; decompress it")
    try:
        with pa.parquet.ParquetFile(path) as table:
            first = next(table.iter_batches(batch_size=SAMPLE_ROWS), None)
            if first is None:
                raise CorpusError(_no_rows(path))
            first.validate(full=True)
            start = _start(path, pa.table(first))
            columns, done, rows = stream.choose(start), 0, table.metadata.num_rows
            for name in columns:
                if name not in start.texts:
                    raise UsageError(f"the column {name!r} of {path} holds no text; name another with --text-column")
            for batch in table.iter_batches(batch_size=ROWS, columns=list(columns)):
                batch.validate(full=True)
                done += len(batch)
                stream.share = done / rows
                yield tuple(_filled(batch.column(name).cast(pa.string())) for name in columns)
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


READERS: dict[Format | None, Callable[[TableStream], Iterator[tuple[list[str], ...]]]] = {
    "json": _json,
    "csv": _delimited,
    "tsv": _delimited,
    "parquet": _parquet,
}


def _start(path: Path, rows: pa.Table) -> Start:
    texts = frozenset(field.name for field in rows.schema if _is_text(field.type))
    return Start(Table(path, {name: as_texts(rows[name][:SAMPLE_ROWS]) for name in rows.column_names}), texts)


def _no_rows(path: Path) -> str:
    return f"{path} is empty; give a file with texts"


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _filled(texts: pa.Array | pa.ChunkedArray) -> list[str]:
    filled: list[str] = pc.fill_null(texts, "").to_pylist()
    return filled
