"""Turns .csv and .tsv files into rows of text; separator, quoting and header are detected."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from bertwright.corpus.readers.blocks import BLOCK_BYTES, ByteBlock, join_parts, read_blocks
from bertwright.corpus.readers.encoding import AS_UTF8, fault_in, not_text
from bertwright.corpus.readers.header import NEWLINE, SAMPLE_BYTES, SEPARATORS, HeaderLayout, is_number, layout_of_table
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import SAMPLE_ROWS, TableOptions, TableRows
from bertwright.errors import CorpusError

LONGEST_BLOCK = (1 << 31) - 1
"""Bytes that Arrow parses at once, so that a cell may be as long as the file."""
BROKEN = "\0"
"""Stands for bytes that are no text in rows that are to be left out: no text has it."""


def require_text(blocks: Iterator[ByteBlock], path: TextFile | str) -> Iterator[ByteBlock]:
    """Yield blocks as they are; raises CorpusError, naming byte and line, at the first that is no UTF-8 text."""
    lines = 0
    for block in blocks:
        fault = fault_in(block.data)
        if fault is not None:
            line = lines + block.data.count(b"\n", 0, fault) + 1
            raise CorpusError(f"{not_text(path, block.data, fault, offset=block.offset, line=line)}; {AS_UTF8}")
        yield block
        lines += block.data.count(b"\n")


def _marked(blocks: Iterator[ByteBlock]) -> Iterator[ByteBlock]:
    """Yield blocks in UTF-8 with BROKEN in the place of bytes that are no text."""
    for block in blocks:
        if fault_in(block.data) is not None:
            text = re.sub("[\udc80-\udcff]", BROKEN, block.data.decode("utf-8", "surrogateescape"))
            block = ByteBlock(text.encode(), block.offset, block.position)
        yield block


class _Blocks(io.RawIOBase):
    """Blocks of a file as a file that pyarrow reads; `position` is that of the last block taken."""

    def __init__(self, blocks: Iterator[ByteBlock]) -> None:
        self.left, self.data, self.position = blocks, memoryview(b""), 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.data and (block := next(self.left, None)):
            self.data, self.position = memoryview(block.data), block.position
        taken = min(len(buffer), len(self.data))
        buffer[:taken], self.data = self.data[:taken], self.data[taken:]
        return taken


@dataclass(frozen=True)
class _Opened:
    """How a table is written, its blocks from the first row on, and the empty lines before that."""

    layout: HeaderLayout
    blocks: Iterator[ByteBlock]
    blank_lines: int


def _open(path: TextFile, options: TableOptions) -> _Opened | None:
    """Open a table; None where it is empty."""
    blocks = read_blocks(path, options.encoding)
    blocks = _marked(blocks) if options.skip_broken else require_text(blocks, path)
    first = _start(blocks)
    if not first.data.strip():
        return None
    stripped = ByteBlock(first.data.lstrip(b"\r\n"), first.offset, first.position)
    layout = layout_of_table(stripped.data, options, path=path)
    twice = next((name for name in layout.names if layout.names.count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"{path} has two columns called {twice!r}; rename one")
    blank = first.data[: len(first.data) - len(stripped.data)]
    return _Opened(layout, chain([stripped], blocks), len(NEWLINE.findall(blank.decode())))


def _start(blocks: Iterator[ByteBlock]) -> ByteBlock:
    """Return the first blocks as one, of as many bytes as a layout is detected by, if there are so many."""
    start = ByteBlock(b"", 0, 0)
    while len(start.data.lstrip(b"\r\n")) < SAMPLE_BYTES and (block := next(blocks, None)) is not None:
        start = ByteBlock(start.data + block.data, 0, block.position)
    return start


def delimited_head(path: TextFile, options: TableOptions) -> pa.Table:
    """Return the first rows of a table as text, and columns that hold nothing but numbers as numbers."""
    opened = _open(path, options)
    if opened is None:
        return pa.table({})
    layout = opened.layout
    rows = [row for row in layout.rows[:SAMPLE_ROWS] if len(row) == len(layout.titles)]
    cells = {name: [row[place] for row in rows] for place, name in enumerate(layout.titles) if name in layout.names}
    return pa.table({name: _typed(cells[name]) for name in layout.names})


def _typed(cells: list[str]) -> pa.Array:
    held = [cell for cell in cells if cell.strip()]
    if not held or not all(map(is_number, held)):
        return pa.array(cells, pa.string())
    return pa.array([float(cell) if cell.strip() else None for cell in cells], pa.float64())


def delimited_rows(
    path: TextFile, options: TableOptions, columns: Sequence[str] | None, *, whole: bool = False
) -> Iterator[TableRows]:
    """Yield the rows of a table as text, all columns or some, `whole` at once; empty cells are empty texts.

    A row of too few or too many cells, or of bytes that are no text, raises CorpusError, or, with `skip_broken`, is
    left out and counted.
    """
    opened = _open(path, options)
    if opened is None:
        return
    layout, blocks = opened.layout, opened.blocks
    left_out: list[Any] = []

    def leave_out(row: Any) -> str:
        left_out.append(row)
        return "skip" if options.skip_broken else "error"

    data = join_parts((block.data for block in blocks), path) + b"\n" if whole else None
    stream = _Blocks(iter([ByteBlock(data, 0, len(data))]) if data is not None else blocks)
    names = list(layout.names if columns is None else columns)
    try:
        reader = pa.csv.open_csv(
            io.BufferedReader(stream, BLOCK_BYTES),
            read_options=pa.csv.ReadOptions(
                column_names=layout.titles,
                skip_rows_after_names=int(layout.header),
                use_threads=False,
                block_size=BLOCK_BYTES if data is None else min(len(data) + 1, LONGEST_BLOCK),
            ),
            parse_options=pa.csv.ParseOptions(
                delimiter=layout.separator,
                quote_char='"' if layout.quoted else False,
                newlines_in_values=layout.quoted,
                ignore_empty_lines=not options.keep_empty or len(layout.titles) > 1,
                invalid_row_handler=leave_out,
            ),
            convert_options=pa.csv.ConvertOptions(
                include_columns=names, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
        for batch in reader:
            table, broken = _without_broken(pa.Table.from_batches([batch])) if options.skip_broken else (batch, 0)
            yield TableRows(_as_table(table), broken + len(left_out), stream.position)
            left_out.clear()
    except pa.ArrowInvalid as error:
        raise CorpusError(_why_not(path, left_out, error, opened, data) + options.or_skip) from error


def _as_table(rows: pa.Table | pa.RecordBatch) -> pa.Table:
    return rows if isinstance(rows, pa.Table) else pa.Table.from_batches([rows])


def _without_broken(table: pa.Table) -> tuple[pa.Table, int]:
    """Return a table without the rows that have bytes that are no text, and how many those were."""
    whole = None
    for column in table.columns:
        fine = pc.invert(pc.match_substring(column, BROKEN))
        whole = fine if whole is None else pc.and_(whole, fine)
    kept = table if whole is None else table.filter(whole)
    return kept, len(table) - len(kept)


def _why_not(path: TextFile, ragged: list[Any], error: Exception, opened: _Opened, data: bytes | None) -> str:
    """Return the sentence for a row of too few or too many cells, with its line where the file is at hand."""
    if not ragged:
        return f"{path} cannot be read as a table ({str(error).rstrip('.')}); fix it"
    row = ragged[-1]
    where = "" if row.number is None else f" row {row.number:,} (with the header)"
    if data is not None:
        text = data.decode(errors="replace")
        found = re.search(rf"(?:^|\r|\n)({re.escape(row.text)})(?=\r|\n|$)", text)
        before = len(NEWLINE.findall(text, 0, found.start(1) if found else 0))
        where = f" line {1 + opened.blank_lines + before:,}"
    return (
        f"{path}{where} has {row.actual_columns} cells where {row.expected_columns} were expected "
        f"(separator: {SEPARATORS[opened.layout.separator]}): {row.text[:60]!r}; fix that line"
    )
