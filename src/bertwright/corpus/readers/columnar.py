"""Turns Parquet and Arrow files into rows, some at a time; what `datasets` wrote has the names of its labels."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from bertwright.corpus.readers import blocks
from bertwright.corpus.readers.blocks import OpenedText, open_text, what_it_is
from bertwright.corpus.readers.cells import class_names, with_class_names
from bertwright.corpus.readers.remote import TextFile, open_bytes, size_of
from bertwright.corpus.readers.rows import SAMPLE_ROWS, UNREADABLE, TableRows
from bertwright.errors import CorpusError

PIECE_BYTES = 4 << 20
MOST_ROWS = 65_536
FILE_MARK = b"ARROW1"
"""Begins a file in the Arrow file format; the stream format has no mark."""
PANDAS_INDEX = "__index_level_0__"


def parquet_head(path: TextFile) -> pa.Table:
    """Return the first rows of a Parquet file; raises CorpusError where it is damaged."""
    if _is_empty(path):
        return pa.table({})
    with _map_errors(path, "Parquet"), _seekable(path) as file, pa.parquet.ParquetFile(file) as table:
        _refuse_twice(table.schema_arrow.names, path)
        first = next(table.iter_batches(batch_size=SAMPLE_ROWS), None)
        whole = table.schema_arrow.empty_table() if first is None else pa.Table.from_batches([first])
        whole.validate(full=True)
        return _named(whole.select(_without_index(whole.column_names)), table.schema_arrow, path)


def parquet_rows(path: TextFile, columns: Sequence[str] | None) -> Iterator[TableRows]:
    """Yield the rows of a Parquet file, all columns or some, about PIECE_BYTES at a time."""
    if _is_empty(path):
        return
    with _map_errors(path, "Parquet"), _seekable(path) as file, pa.parquet.ParquetFile(file) as table:
        names = list(_without_index(table.schema_arrow.names) if columns is None else columns)
        size, rows, done = size_of(path), max(1, table.metadata.num_rows), 0
        for batch in table.iter_batches(batch_size=_rows_a_piece(table.metadata), columns=names):
            done += len(batch)
            rows_read = pa.Table.from_batches([batch]).select(names)
            rows_read.validate(full=True)
            yield TableRows(_named(rows_read, table.schema_arrow, path), 0, size * done // rows)


def arrow_head(path: TextFile) -> pa.Table:
    """Return the first rows of an Arrow file; raises CorpusError where it is damaged."""
    if _is_empty(path):
        return pa.table({})
    with _map_errors(path, "Arrow"), _mapped(path) as opened:
        first = next(_record_batches(opened), None)
        whole = pa.table({}) if first is None else pa.Table.from_batches([first[0]]).slice(0, SAMPLE_ROWS)
        _refuse_twice(whole.column_names, path)
        whole.validate(full=True)
        return _named(whole.select(_without_index(whole.column_names)), whole.schema, path)


def arrow_rows(path: TextFile, columns: Sequence[str] | None) -> Iterator[TableRows]:
    """Yield the rows of an Arrow file, of the stream format (that of Hugging Face `datasets`) or the file format.

    A plain file of this machine is mapped into memory.
    """
    if _is_empty(path):
        return
    with _map_errors(path, "Arrow"), _mapped(path) as opened:
        for batch, position in _record_batches(opened):
            whole = pa.Table.from_batches([batch])
            rows_read = whole.select(_without_index(whole.column_names) if columns is None else list(columns))
            rows_read.validate(full=True)
            step = max(1, PIECE_BYTES * len(rows_read) // max(1, rows_read.nbytes))
            for start in range(0, len(rows_read), step):
                yield TableRows(_named(rows_read.slice(start, step), batch.schema, path), 0, position)


@contextmanager
def _map_errors(path: TextFile, kind: str) -> Iterator[None]:
    """Raise CorpusError for whatever pyarrow raises over bytes that are no such file."""
    try:
        yield
    except UNREADABLE as error:
        named = _what_it_is_instead(path, kind)
        if named:
            raise CorpusError(f"{path} is no {kind} file: {named}; give it the suffix of what it is") from error
        reason = str(error).split("\n")[0].rstrip(".")
        raise CorpusError(f"{path} is not a whole {kind} file ({reason}); fetch it again") from error


def _what_it_is_instead(path: TextFile, kind: str) -> str | None:
    """Return what a local file is by its first bytes, where that is something else than its suffix says."""
    if not isinstance(path, Path) or path.suffix.lower() not in (".parquet", ".arrow"):
        return None
    with path.open("rb") as file:
        start = file.read(512)
    found = what_it_is(start)
    if found is not None:
        return None if kind in found else f"it is {found}"
    text = start.strip()[:40]
    is_text = text.isascii() and text.decode("ascii").isprintable() and not start.startswith(b"PAR1")
    return f"it begins with {text.decode()!r}" if text and is_text else None


def _is_empty(path: TextFile) -> bool:
    return isinstance(path, Path) and size_of(path) == 0


def _refuse_twice(names: Sequence[str], path: TextFile) -> None:
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise CorpusError(f"{path} has two columns called {twice!r}; rename one")


def _without_index(names: Sequence[str]) -> list[str]:
    """Return the names of columns but for pandas' row numbers."""
    return [name for name in names if name != PANDAS_INDEX]


def _named(table: pa.Table, schema: pa.Schema, path: TextFile) -> pa.Table:
    return with_class_names(table, class_names(schema), path=path)


@contextmanager
def _mapped(path: TextFile) -> Iterator[OpenedText]:
    """Open a file: mapped into memory where that can be, so that no length it claims is ever allocated."""
    if isinstance(path, Path) and path.suffix.lower() == ".arrow":
        with pa.memory_map(str(path)) as file:
            yield OpenedText(file, file)
        return
    with open_text(path) as opened:
        yield opened


def _record_batches(opened: OpenedText) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Yield the record batches of either Arrow format, and the bytes read up to the end of each."""
    if isinstance(opened.stream, pa.MemoryMappedFile) and opened.stream.read(len(FILE_MARK)) == FILE_MARK:
        opened.stream.seek(0)
        reader = pa.ipc.open_file(opened.stream)
        size, count = opened.stream.size(), reader.num_record_batches
        yield from ((reader.get_batch(index), size * (index + 1) // count) for index in range(count))
        return
    if isinstance(opened.stream, pa.MemoryMappedFile):
        opened.stream.seek(0)
    for batch in pa.ipc.open_stream(opened.stream):
        yield batch, opened.file.tell()


def _rows_a_piece(metadata: Any) -> int:
    """Return how many rows hold about PIECE_BYTES, all columns together.

    The sizes of single columns are not read: where the figures of one contradict one another, `RowGroupMetaData.
    column` of pyarrow ends the process ("terminate called after throwing an instance of 'parquet::ParquetException'").
    """
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return int(max(1, min(MOST_ROWS, PIECE_BYTES * metadata.num_rows // max(1, size))))


@contextmanager
def _seekable(path: TextFile) -> Iterator[Any]:
    """Yield the file itself, or a temporary copy of it decompressed: Parquet is read from its end."""
    if path.suffix.lower() == ".parquet":
        with open_bytes(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy, open_text(path) as opened:
        while data := opened.stream.read(PIECE_BYTES):
            copy.write(data)
            if copy.tell() > blocks.LARGEST_WHOLE:
                raise CorpusError(f"{path} is large, and a compressed Parquet file is read whole; decompress it")
        copy.seek(0)
        yield copy
