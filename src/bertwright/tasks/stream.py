"""Turns a file, or stdin, into its texts in order, a row a text, a piece at a time: files may be larger than memory.

Columns, separator and header are told as everywhere; an empty line or cell is an empty text, so that the n-th text is
that of the n-th row.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from bertwright.corpus.inputs import BLOCK_BYTES, Block, format_of, open_text, read_blocks
from bertwright.corpus.layouts import fault_in
from bertwright.corpus.nesting import refuse_nested
from bertwright.corpus.tables import UNREADABLE
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SENTENCES, SINGLES
from bertwright.tasks.tables import tell_layout

STDIN = Path("-")
ROWS = 4096
"""Rows of Parquet read at a time."""


def stream_texts(path: Path, column: str | None = None) -> Iterator[list[str]]:
    """Yield the texts of a file some at a time, or of the lines of stdin where `path` is "-".

    `column` names the column of a table; None takes one called text, sentence ..., or the only one of text. Raises
    CorpusError where the file is missing, of no known format or damaged, and UsageError where it has no such column.
    """
    if path == STDIN:
        yield from LineStream(path)
        return
    refuse_missing(path)
    kind = format_of(path)
    if kind in ("txt", "md"):
        if column is not None:
            raise UsageError(f"{path} holds a text a line and has no columns; leave --text-column out")
        yield from LineStream(path)
    elif kind == "json":
        yield from _json(path, column)
    elif kind == "parquet":
        yield from _parquet(path, column)
    elif kind is not None:
        yield from _delimited(path, column)
    else:
        raise CorpusError(f"{path} is of no format that can be read; expected .txt, .tsv, .csv, .jsonl or .parquet")


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
        for block in _stdin() if self.path == STDIN else read_blocks(self.path):
            lines = self._cut(block)
            step = self.most or len(lines)
            for begin in range(0, len(lines), step):
                done = min(1.0, (begin + step) / len(lines))
                self.share = (before + (block.position - before) * done) / size if size else None
                yield lines[begin : begin + step]
            before = block.position

    def _cut(self, block: Block) -> list[str]:
        fault = fault_in(block.data)
        if fault is not None:
            raise CorpusError(f"{self.path} is not UTF-8 text at byte {block.offset + fault:,}; convert it to UTF-8")
        lines = block.data.decode().removesuffix("\n").split("\n")
        return [line.removesuffix("\r") for line in lines]


def choose_column(columns: dict[str, bool], told: str | None, *, path: Path) -> str:
    """Return the column of text: the one told, else one of a usual name, else the only one that holds text.

    `columns` says of each whether it does. Raises UsageError for a wrong name and CorpusError where none is clear.
    """
    names = ", ".join(columns)
    if told is not None:
        if told not in columns:
            raise UsageError(f"{path} has no column {told!r}; its columns are {names}")
        return told
    lower = {name.strip().lower(): name for name, is_text in reversed(columns.items()) if is_text}
    named = next((lower[name] for name in SINGLES if name in lower), None)
    if named is None and len(lower) == 1:
        named = next(iter(lower.values()))
    if named is None:
        raise CorpusError(f"cannot tell which column of {path} is the text ({names}); name it with --text-column")
    return named


def _stdin() -> Iterator[Block]:
    """Yield stdin as blocks of whole lines."""
    rest, offset = b"", 0
    while data := sys.stdin.buffer.read(BLOCK_BYTES):
        whole, mark, rest = (rest + data).rpartition(b"\n")
        if mark:
            yield Block(whole + mark, offset, 0)
            offset += len(whole) + 1
    if rest:
        yield Block(rest, offset, 0)


def _json(path: Path, told: str | None) -> Iterator[list[str]]:
    column, rows = None, 0
    for block in read_blocks(path):
        if not block.data.strip():
            continue
        try:
            if column is None:
                refuse_nested(block.data, path)
                first = pa.json.read_json(pa.BufferReader(block.data), read_options=_whole(block)).schema
                column = choose_column({field.name: _is_text(field.type) for field in first}, told, path=path)
            options = pa.json.ParseOptions(
                explicit_schema=pa.schema({column: pa.string()}), unexpected_field_behavior="ignore"
            )
            table = pa.json.read_json(pa.BufferReader(block.data), read_options=_whole(block), parse_options=options)
            table.validate(full=True)
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise CorpusError(f"{path}, after row {rows:,}: not one JSON object with texts a line ({error})") from error
        rows += len(table)
        yield _filled(table[column])


def _whole(block: Block) -> pa.json.ReadOptions:
    return pa.json.ReadOptions(use_threads=False, block_size=len(block.data) + 1)


def _delimited(path: Path, told: str | None) -> Iterator[list[str]]:
    start = next(read_blocks(path), None)
    if start is None or not start.data.strip():
        raise CorpusError(f"{path} is empty; give a file with texts")
    separator, titles, header = tell_layout(start.data, SENTENCES | {told or ""}, path=path, one_column=True)
    column = choose_column(dict.fromkeys(titles, True), told, path=path)
    blank = len(start.data) - len(start.data.lstrip(b"\r\n"))
    try:
        with open_text(path) as opened:
            reader = pa.csv.open_csv(
                opened.stream,
                read_options=pa.csv.ReadOptions(
                    column_names=titles,
                    skip_rows=start.data.count(b"\n", 0, blank) + 1 if header else 0,
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
                    include_columns=[column], column_types={column: pa.string()}, strings_can_be_null=False
                ),
            )
            for batch in reader:
                yield _filled(batch.column(0))
    except pa.ArrowInvalid as error:
        raise CorpusError(f"{path} cannot be read as a table ({error}); mend it") from error


def _parquet(path: Path, told: str | None) -> Iterator[list[str]]:
    if path.suffix.lower() != ".parquet":
        raise CorpusError(f"{path} is a compressed Parquet file, which cannot be read in pieces; decompress it")
    try:
        with pa.parquet.ParquetFile(path) as table:
            columns = {field.name: _is_text(field.type) for field in table.schema_arrow}
            column = choose_column(columns, told, path=path)
            if not columns[column]:
                raise UsageError(f"the column {column!r} of {path} holds no text; name another with --text-column")
            for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
                batch.validate(full=True)
                yield _filled(batch.column(0).cast(pa.string()))
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({error}); fetch it again") from error


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _filled(texts: pa.Array | pa.ChunkedArray) -> list[str]:
    filled: list[str] = pc.fill_null(texts, "").to_pylist()
    return filled
