"""Turns the text column of JSON-lines, CSV, TSV, Parquet and Arrow files into documents: a row is a document."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from bertwright.corpus.inputs import Block, OpenedText, ReadOptions, format_of, open_text, read_blocks
from bertwright.corpus.layouts import Piece, broken_bytes, fault_in, first_fault
from bertwright.corpus.remote import TextFile, open_bytes, size_of
from bertwright.errors import CorpusError

PIECE_BYTES = 4 << 20
ROWS_TOLD_FROM = 100
FILE_MARK = b"ARROW1"
"""Begins a file in the Arrow file format; the stream format has no mark."""
UNREADABLE = (pa.ArrowException, OSError, MemoryError, ValueError, KeyError, IndexError, OverflowError)
"""What pyarrow raises over bytes that are no file of its formats."""


class _BrokenLine(Exception):
    """A line that holds no row; its text is the reason."""


def choose_column(columns: dict[str, bool], options: ReadOptions, *, path: TextFile) -> str:
    """Return the column of text: the one asked for, else "text", else the only one of text, else CorpusError.

    `columns` tells of each column whether it holds text.
    """
    names = ", ".join(columns) or "none"
    if options.column is not None:
        if options.column in columns:
            return options.column
        raise CorpusError(f'{path} has no column "{options.column}"; its columns are {names}')
    of_text = [name for name, is_text in columns.items() if is_text]
    if "text" in columns:
        return "text"
    if len(of_text) == 1:
        return of_text[0]
    raise CorpusError(f'{path} has no column "text"; name its column of text with --column (its columns are {names})')


def read_json_lines(path: TextFile, options: ReadOptions) -> Iterator[Piece]:
    """Yield the documents of a file of one JSON object a line; a null or absent text is an empty document.

    A line that is no object with a string raises CorpusError naming file and line, or, with `skip_broken`, is left
    out and counted.
    """
    column = None
    line = 1
    for block in read_blocks(path):
        if column is None:
            columns = _json_columns(block.data)
            column = choose_column(columns, options, path=path) if columns else None
        texts, broken = _json_texts(block, column or "text", options, path=path, line=line)
        yield Piece(texts, broken, block.position)
        line += block.data.count(b"\n")


def _json_columns(data: bytes) -> dict[str, bool]:
    """Return the keys of the first rows that can be read, and whether they ever hold a string."""
    columns: dict[str, bool] = {}
    for line in islice((line for line in data.splitlines() if line.strip()), ROWS_TOLD_FROM):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        for name, value in row.items() if isinstance(row, dict) else ():
            columns[name] = columns.get(name, False) or isinstance(value, str)
    return columns


def _json_texts(
    block: Block, column: str, options: ReadOptions, *, path: TextFile, line: int
) -> tuple[pa.StringArray, int]:
    """Parse a block at once; only where that fails, line by line, to say which line it is."""
    try:
        table = pa.json.read_json(
            pa.BufferReader(block.data),
            read_options=pa.json.ReadOptions(use_threads=False, block_size=len(block.data) + 1),
            parse_options=pa.json.ParseOptions(
                explicit_schema=pa.schema({column: pa.string()}), unexpected_field_behavior="ignore"
            ),
        )
        table.validate(full=True)
        return _filled(table[column]), 0
    except pa.ArrowInvalid:
        return _json_line_by_line(block.data, column, options, path=path, line=line)


def _json_line_by_line(
    data: bytes, column: str, options: ReadOptions, *, path: TextFile, line: int
) -> tuple[pa.StringArray, int]:
    texts, broken = [], 0
    for number, row in enumerate(data.split(b"\n"), start=line):
        if not row.strip():
            continue
        try:
            texts.append(_json_text(row, column))
        except _BrokenLine as reason:
            if not options.skip_broken:
                raise CorpusError(
                    f"{path} line {number} is not a JSON object with a text ({reason}); "
                    "mend it, or give --skip-broken to leave such lines out"
                ) from reason
            broken += 1
    return pa.array(texts, pa.string()), broken


def _json_text(line: bytes, column: str) -> str:
    """Return the text of one line; unpaired surrogates, which are no characters, become U+FFFD."""
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError as error:
        raise _BrokenLine(f"not UTF-8 at byte {error.start} of the line") from error
    except ValueError as error:
        raise _BrokenLine(str(error)) from error
    except RecursionError as error:
        raise _BrokenLine("its values are nested too deeply") from error
    if not isinstance(row, dict):
        raise _BrokenLine(f"expected an object, found {type(row).__name__}")
    text = row.get(column)
    if text is not None and not isinstance(text, str):
        raise _BrokenLine(f'its "{column}" is of type {type(text).__name__}, not a string')
    return (text or "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def read_delimited(path: TextFile, options: ReadOptions, *, delimiter: str) -> Iterator[Piece]:
    """Yield the documents of a CSV or TSV file with a header line; quoted texts may hold newlines.

    A row of too few or too many fields, or of bytes that are no UTF-8, raises CorpusError, or, with `skip_broken`, is
    left out and counted.
    """
    left_out: list[int] = []

    def leave_out(row: Any) -> str:
        left_out.append(1)
        return "skip" if options.skip_broken else "error"

    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=leave_out)
    column = choose_column(_delimited_columns(path, parse), options, path=path)
    left_out.clear()
    convert = pa.csv.ConvertOptions(include_columns=[column], column_types={column: pa.binary()})
    try:
        with open_text(path) as opened:
            for batch in pa.csv.open_csv(
                opened.stream,
                parse_options=parse,
                convert_options=convert,
                read_options=pa.csv.ReadOptions(use_threads=False, block_size=PIECE_BYTES),
            ):
                texts, broken = _decoded(batch.column(0), options, path=path)
                yield Piece(texts, broken + len(left_out), opened.file.tell())
                left_out.clear()
    except pa.ArrowInvalid as error:
        raise CorpusError(_bad_rows(path, error)) from error


def _delimited_columns(path: TextFile, parse: pa.csv.ParseOptions) -> dict[str, bool]:
    """Return the columns of the header, and whether the first rows hold text there."""
    try:
        with open_text(path) as opened:
            alone = pa.csv.ReadOptions(use_threads=False)  # several threads do not know the number of a ragged row
            schema = pa.csv.open_csv(opened.stream, read_options=alone, parse_options=parse).schema
            names = schema.names
    except UnicodeDecodeError as error:
        raise CorpusError(broken_bytes(path, first_fault(path))) from error
    except pa.ArrowInvalid as error:
        raise CorpusError(_bad_rows(path, error)) from error
    if len(set(names)) < len(names):
        raise CorpusError(f"{path} has two columns of one name ({', '.join(names)}); rename one")
    return {field.name: pa.types.is_string(field.type) or pa.types.is_binary(field.type) for field in schema}


def _bad_rows(path: TextFile, error: pa.ArrowInvalid) -> str:
    return f"{path} cannot be read as a table ({error}); mend it, or give --skip-broken to leave such rows out"


def _decoded(values: pa.BinaryArray, options: ReadOptions, *, path: TextFile) -> tuple[pa.StringArray, int]:
    """Return the values as text, and how many were left out because they are none."""
    try:
        texts = values.cast(pa.string())
        if not pc.any(pc.match_substring(texts, "\0")).as_py():
            return _filled(texts), 0
    except pa.ArrowInvalid:
        pass
    good = [value for value in values.to_pylist() if value is None or fault_in(value) is None]
    if not options.skip_broken:
        raise CorpusError(broken_bytes(path, first_fault(path)))
    return _filled(pa.array(good, pa.binary()).cast(pa.string())), len(values) - len(good)


def read_parquet(path: TextFile, options: ReadOptions) -> Iterator[Piece]:
    """Yield the documents of a Parquet file; a file that is damaged raises CorpusError."""
    try:
        with _seekable(path) as file:
            table = pa.parquet.ParquetFile(file)
            columns = {field.name: _is_text(field.type) for field in table.schema_arrow}
            column = choose_column(columns, options, path=path)
            if not columns[column]:
                raise CorpusError(_no_text(column, path))
            size, rows, done = size_of(path), max(1, table.metadata.num_rows), 0
            for batch in table.iter_batches(batch_size=_rows_a_piece(table.metadata), columns=[column]):
                done += len(batch)
                batch.validate(full=True)
                yield Piece(_filled(batch.column(0).cast(pa.string())), 0, size * done // rows)
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Parquet file ({_first_line(error)}); fetch it again") from error


def read_arrow(path: TextFile, options: ReadOptions) -> Iterator[Piece]:
    """Yield the documents of an Arrow file, of the stream format (that of Hugging Face `datasets`) or the file format.

    A plain file of this machine is mapped into memory; a file that is damaged raises CorpusError.
    """
    try:
        with _mapped(path) as opened:
            for batch, position in _record_batches(opened):
                columns = {field.name: _is_text(field.type) for field in batch.schema}
                column = choose_column(columns, options, path=path)
                if not columns[column]:
                    raise CorpusError(_no_text(column, path))
                texts = batch.column(column)
                texts.validate(full=True)
                step = max(1, PIECE_BYTES * len(texts) // max(1, texts.nbytes))
                for start in range(0, len(texts), step):
                    yield Piece(_filled(texts[start : start + step].cast(pa.string())), 0, position)
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole Arrow file ({_first_line(error)}); fetch it again") from error


def text_columns(path: TextFile) -> Iterator[str]:
    """Yield every text of every column of text of a Parquet or Arrow file; raises CorpusError where it is damaged."""
    read = read_arrow if format_of(path) == "arrow" else read_parquet
    for name in _columns_of_text(path):
        for piece in read(path, ReadOptions(column=name)):
            yield from piece.texts.to_pylist()


def _columns_of_text(path: TextFile) -> list[str]:
    try:
        if format_of(path) == "parquet":
            with _seekable(path) as file:
                schema = pa.parquet.ParquetFile(file).schema_arrow
        else:
            with _mapped(path) as opened:
                schema = next((batch.schema for batch, _ in _record_batches(opened)), pa.schema([]))
    except UNREADABLE as error:
        raise CorpusError(f"{path} is not a whole table ({_first_line(error)}); fetch it again") from error
    return [field.name for field in schema if _is_text(field.type)]


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


def _no_text(column: str, path: TextFile) -> str:
    return f'the column "{column}" of {path} holds no text; name another with --column'


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _rows_a_piece(metadata: Any) -> int:
    """Return how many rows hold about PIECE_BYTES, all columns together.

    The sizes of single columns are not asked for: where the figures of one contradict one another, `RowGroupMetaData.
    column` of pyarrow ends the process ("terminate called after throwing an instance of 'parquet::ParquetException'").
    """
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    return int(max(1, min(65_536, PIECE_BYTES * metadata.num_rows // max(1, size))))


@contextmanager
def _seekable(path: TextFile) -> Iterator[Any]:
    """Yield the file itself, or a temporary copy of it decompressed: Parquet is read from its end."""
    if path.suffix.lower() == ".parquet":
        with open_bytes(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy, open_text(path) as opened:
        shutil.copyfileobj(opened.stream, copy, PIECE_BYTES)
        copy.seek(0)
        yield copy


def _filled(texts: pa.StringArray | pa.ChunkedArray) -> pa.StringArray:
    """Return the texts as one array, null rows as empty texts."""
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    return pc.fill_null(whole, "")
