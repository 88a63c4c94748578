"""Turns JSON into the rows of a table: an object a line, an array of objects, or {"data": [objects]}.

Arrays and objects over several lines become JSON lines as they stream: a comma between two rows becomes a newline, a
newline within a row a blank, so that no byte moves and memory stays bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from bertwright.corpus.readers.blocks import (
    AS_UTF8,
    ByteBlock,
    fault_in,
    in_lines,
    join_blocks,
    not_text,
    read_decoded,
)
from bertwright.corpus.readers.cells import as_text, kind_of
from bertwright.corpus.readers.characters import parse_json, replace_surrogate_escapes
from bertwright.corpus.readers.nesting import depth_of, refuse_nested
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import SAMPLE_ROWS, TableOptions, TableRows
from bertwright.errors import CorpusError

Form = Literal["lines", "array", "data", "pretty"]
"""How rows stand in a file: one a line, in an array, in the array "data" of one object, or over several lines."""
START_BYTES = 1 << 16
PIECE = 1 << 20
"""Bytes whose brackets are counted together: 20 MB of sums."""
SOME_ROWS = 1024
"""Rows that are objects at a time."""
DATA = re.compile(rb'"data"\s*:\s*(\[)\s*[\]{]')
EXACT = 1 << 53
"""From here on a float skips whole numbers."""


class _BrokenLine(Exception):
    """A line that holds no row; its text is the reason."""


@dataclass(frozen=True)
class JsonLines:
    """Blocks of JSON lines, and what a line of them is in the file: a line, or a row of an array."""

    blocks: Iterator[ByteBlock]
    unit: str


def open_json(path: TextFile, options: TableOptions) -> JsonLines:
    """Return the rows of a JSON file as lines; raises CorpusError at a block that is no text or cut short."""
    chunks = read_decoded(path, options.encoding)
    start: list[tuple[bytes, int]] = []
    while sum(len(data) for data, _ in start) < START_BYTES and (more := next(chunks, None)) is not None:
        start.append(more)
    whole = b"".join(data for data, _ in start)
    form, begin = form_of(whole, ended=len(whole) < START_BYTES)
    everything: Iterator[tuple[bytes, int]] = chain(start, chunks)
    if form != "lines":
        everything = _on_lines(everything, path, form, begin)
    escaped = ((replace_surrogate_escapes(block.data), block) for block in in_lines(everything, path))
    blocks = (ByteBlock(data, block.offset, block.position) for data, block in escaped)
    return JsonLines(blocks, "line" if form == "lines" else "row")


def form_of(start: bytes, *, ended: bool) -> tuple[Form, int]:
    """Return how rows stand in a file, from its start, and where the array of them begins.

    >>> form_of(b'{"version": 1, "data": [{"text": "a"}]}', ended=True)
    ('data', 23)
    """
    text = start.lstrip()
    skipped = len(start) - len(text)
    if re.match(rb"\[\s*([{]|\]\s*$)", text):
        return "array", skipped
    line, newline, rest = text.partition(b"\n")
    is_complete = bool(newline) and _balance(line) == 0
    if not text.startswith(b"{") or (is_complete and rest.strip()) or (is_complete and not ended):
        return "lines", 0
    for found in DATA.finditer(text):
        if _balance(text[: found.start()]) == 1 and text[: found.start()].rstrip()[-1:] in (b"{", b","):
            return "data", skipped + found.start(1)
    goes_on = newline and not is_complete and rest.strip() and not rest.lstrip().startswith(b"{")
    return ("pretty" if goes_on else "lines"), 0


def _balance(data: bytes) -> int:
    """Return how many brackets are open at the end of JSON."""
    counter = _Brackets()
    counter.depths(data)
    return counter.depth


class _Brackets:
    """Counts open brackets outside of strings, over any number of pieces of a file."""

    def __init__(self) -> None:
        self.depth = 0
        self._in_string = False

    def depths(self, data: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Return the open brackets after each byte, and whether it stands in a string; no piece ends in an escape."""
        marks = np.frombuffer(data.replace(b"\\\\", b"xx").replace(b'\\"', b"xx"), dtype=np.uint8)
        quotes = np.cumsum(marks == ord('"'), dtype=np.int32) + self._in_string
        inside = quotes % 2 == 1
        steps = (marks | 0x20 == ord("{")).astype(np.int8) - (marks | 0x20 == ord("}")).astype(np.int8)
        steps[inside] = 0  # "[" and "{", "]" and "}" differ in the bit 0x20 alone
        depths = self.depth + np.cumsum(steps, dtype=np.int32)
        if len(data):
            self.depth, self._in_string = int(depths[-1]), bool(inside[-1])
        return depths, inside


def _on_lines(
    chunks: Iterator[tuple[bytes, int]], path: TextFile, form: Form, begin: int
) -> Iterator[tuple[bytes, int]]:
    """Yield chunks in which every row is on a line of its own; `begin` is where their array begins."""
    counter, blank = _Brackets(), begin + 1 if form != "pretty" else 0
    left, position = b"", 0
    for chunk, position in chunks:
        pieces = _pieces(left + chunk)
        for data in pieces:
            left = data[len(data.rstrip(b"\\")) :][-1:] if (len(data) - len(data.rstrip(b"\\"))) % 2 else b""
            piece = data[: len(data) - len(left)]
            skipped = min(blank, len(piece))
            blank -= skipped
            rows, rest = _cut_rows(piece[skipped:], counter, is_array=form != "pretty")
            yield b" " * skipped + rows, position
            if rest is not None:
                _refuse_more(chain([rest], pieces, (data for data, _ in chunks)), path, within=form == "data")
                return
    if counter.depth or form != "pretty":
        raise CorpusError(f"{path} is not one JSON object a line, and ends within a row or array; fetch it again")


def _pieces(data: bytes) -> Iterator[bytes]:
    """Yield data in pieces; none but the last ends in a backslash."""
    start = 0
    while start < len(data):
        stop = min(len(data), start + PIECE)
        while stop < len(data) and data[stop - 1 : stop] == b"\\":
            stop += 1
        yield data[start:stop]
        start = stop


def _cut_rows(data: bytes, counter: _Brackets, *, is_array: bool) -> tuple[bytes, bytes | None]:
    """Return a piece with a row a line, and what follows the end of the array, None before that."""
    depths, inside = counter.depths(data)
    ends = np.flatnonzero(depths < 0).tolist() if is_array else []
    stop = ends[0] if ends else len(data)
    cells = np.frombuffer(data, dtype=np.uint8)[:stop].copy()
    free = ~inside[:stop]
    breaks = ((cells == ord("\n")) | (cells == ord("\r"))) & free & (is_array | (depths[:stop] > 0))
    cells[breaks] = ord(" ")
    if is_array:
        cells[(cells == ord(",")) & free & (depths[:stop] == 0)] = ord("\n")
    return cells.tobytes() + (b"\n" if ends else b""), data[stop + 1 :] if ends else None


def _refuse_more(rest: Iterable[bytes], path: TextFile, *, within: bool) -> None:
    """Raise CorpusError where more than blanks follows the array, or the object that it is `within`."""
    counter = _Brackets()
    for data in rest:
        if within:
            ends = np.flatnonzero(counter.depths(data)[0] < 0).tolist()
            within, data = not ends, data[ends[0] + 1 :] if ends else b""
        if data.strip():
            raise CorpusError(f"{path} has more after the end of its JSON array; give one array, or one object a line")
    if within:
        raise CorpusError(f"{path} is cut short: its JSON ends within an object; fetch it again")


def json_head(path: TextFile, options: TableOptions) -> pa.Table:
    """Return the first rows of a JSON file that can be read, by their keys; none where it holds nothing."""
    lines = open_json(path, options)
    rows: list[dict[str, Any]] = []
    first = next((block for block in lines.blocks if block.data.strip()), None)
    if first is None:
        return pa.table({})
    for line in islice((line for line in first.data.split(b"\n") if line.strip()), SAMPLE_ROWS):
        try:
            row = parse_json(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    if not rows:  # which line is wrong, and how
        return _line_by_line(first.data, pa.schema({"text": pa.string()}), options, where=(path, lines.unit, 1))[0]
    _refuse_other_shapes(rows, path, alone=first.data.strip().count(b"\n") == 0)
    return table_of(rows)


def _refuse_other_shapes(rows: list[dict[str, Any]], path: TextFile, *, alone: bool) -> None:
    """Raise CorpusError where objects are SQuAD's articles, or the columns of a table instead of its rows."""
    if rows and all(isinstance(row.get("paragraphs"), list) for row in rows):
        raise CorpusError(
            f"{path} is one JSON object with all its rows in it, as SQuAD is, and no table of texts; "
            "give .jsonl, an object a line"
        )
    values = list(rows[0].values()) if len(rows) == 1 and alone else []
    if len(values) > 1 and all(isinstance(value, dict) and len(value) > 0 for value in values):
        keys = {tuple(value) for value in values}
        if len(keys) == 1 and all(key.isdigit() for key in next(iter(keys))):
            raise CorpusError(
                f'{path} holds columns, as pandas writes them, not rows; write it with to_json(orient="records")'
            )
    are_lists = len(values) > 1 and all(isinstance(value, list) and len(value) > 1 for value in values)
    if are_lists and len({len(value) for value in values}) == 1:
        raise CorpusError(f"{path} holds one object of columns, not rows; give an array of objects, or one a line")


def json_rows(
    path: TextFile, options: TableOptions, columns: Sequence[str] | None, *, head: pa.Table, whole: bool = False
) -> Iterator[TableRows]:
    """Yield the rows of a JSON file, all columns or some, `whole` at once; a key that a row lacks is null.

    A line that is no object raises CorpusError naming it, or, with `skip_broken`, is left out and counted.
    """
    lines = open_json(path, options)
    schema = None if columns is None else pa.schema({name: _plain(head.schema.field(name).type) for name in columns})
    number = 1
    for block in _at_once(lines.blocks, path) if whole else lines.blocks:
        if block.data.strip():
            table, broken = _parse(block.data, schema, options, where=(path, lines.unit, number))
            yield TableRows(table, broken, block.position)
        number += block.data.count(b"\n")


def json_objects(path: TextFile, options: TableOptions) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield the rows of a JSON file as objects, values of any types, some at a time, and the bytes read so far.

    A line that is no object raises CorpusError naming it.
    """
    lines, number = open_json(path, options), 1
    for block in lines.blocks:
        every = block.data.removesuffix(b"\n").split(b"\n")
        for start in range(0, len(every), SOME_ROWS):
            some = every[start : start + SOME_ROWS]
            yield block.position, _objects(b"\n".join(some), None, options, where=(path, lines.unit, number))[0]
            number += len(some)


def _at_once(blocks: Iterator[ByteBlock], path: TextFile) -> Iterator[ByteBlock]:
    data = join_blocks((block.data for block in blocks), path)
    yield ByteBlock(data, 0, len(data))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column as it is asked for: text where the first rows say nothing."""
    return pa.string() if pa.types.is_null(kind) else kind


def _parse(
    data: bytes, schema: pa.Schema | None, options: TableOptions, *, where: tuple[TextFile, str, int]
) -> tuple[pa.Table, int]:
    """Parse a block at once; only where that fails, line by line, to say which line it is."""
    try:
        table = _parse_at_once(data, schema, path=where[0])
        table.validate(full=True)
        _read_names(table.schema)
        if schema is None and any(map(_is_rounded, table.columns)):
            return _line_by_line(data, schema, options, where=where)
        return table, 0
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _line_by_line(data, schema, options, where=where)


def _read_names(fields: Iterable[pa.Field]) -> None:
    """Raise UnicodeDecodeError where a name, also one of an object within, is no UTF-8: pyarrow does not look."""
    for field in fields:
        assert isinstance(field.name, str)
        kind = field.type
        while pa.types.is_list(kind):
            kind = kind.value_type
        if pa.types.is_struct(kind):
            _read_names(kind)


def _is_rounded(column: pa.ChunkedArray) -> bool:
    """Return whether pyarrow read whole numbers as floats that may not hold their last digits."""
    if not pa.types.is_floating(column.type):
        return False
    largest = pc.max(pc.abs(column)).as_py()
    return largest is not None and largest >= EXACT


def _parse_at_once(data: bytes, schema: pa.Schema | None, *, path: TextFile) -> pa.Table:
    if not data.lstrip().startswith(b"{"):  # pyarrow ends the process (signal 11) where the first value is null
        raise pa.ArrowInvalid("the first value is no object")
    if schema is None:
        refuse_nested(data, path)
    read = partial(
        pa.json.read_json,
        read_options=pa.json.ReadOptions(use_threads=False, block_size=min(len(data) + 1, (1 << 31) - 1)),
    )
    if schema is not None:
        options = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
        return read(pa.BufferReader(data), parse_options=options).select(schema.names)
    table = read(pa.BufferReader(data))
    dates = {field.name: pa.string() for field in table.schema if pa.types.is_timestamp(field.type)}
    if not dates:
        return table
    # What looks like a date is text like any other.
    options = pa.json.ParseOptions(explicit_schema=pa.schema(dates))
    return read(pa.BufferReader(data), parse_options=options).select(table.column_names)


def _line_by_line(
    data: bytes, schema: pa.Schema | None, options: TableOptions, *, where: tuple[TextFile, str, int]
) -> tuple[pa.Table, int]:
    rows, broken = _objects(data, schema, options, where=where)
    return table_of(rows, schema), broken


def _objects(
    data: bytes, schema: pa.Schema | None, options: TableOptions, *, where: tuple[TextFile, str, int]
) -> tuple[list[dict[str, Any]], int]:
    path, unit, first = where
    rows, broken = [], 0
    for number, line in enumerate(data.split(b"\n"), start=first):
        if not line.strip():
            continue
        try:
            rows.append(_row_of(line, schema, options))
        except _BrokenLine as reason:
            if not options.skip_broken:
                cure = f"fix it{options.or_skip}"
                fault = fault_in(line)
                if fault is not None:
                    raise CorpusError(f"{not_text(f'{path} {unit} {number:,}', line, fault)}; {AS_UTF8}") from reason
                raise CorpusError(f"{path} {unit} {number:,} is not a JSON object ({reason}); {cure}") from reason
            broken += 1
    return rows, broken


def _row_of(line: bytes, schema: pa.Schema | None, options: TableOptions) -> dict[str, Any]:
    """Return the object of a line, where its values fit the schema."""
    try:
        line.decode()
        row = parse_json(line)
    except UnicodeDecodeError as error:
        raise _BrokenLine(f"not UTF-8 at byte {error.start} of the line") from error
    except ValueError as error:
        raise _BrokenLine(str(error)) from error
    except RecursionError as error:
        raise _BrokenLine("its values are nested too deeply") from error
    if not isinstance(row, dict):
        raise _BrokenLine(f"expected an object, found {type(row).__name__}")
    if schema is None:
        if line.count(b"[") + line.count(b"{") > 100 and depth_of(line) > 100:
            raise _BrokenLine("its values are nested too deeply")
        return row
    for field in schema:
        value, kind = row.get(field.name), kind_of(field.type)
        expected = list if kind == "list" else dict if kind == "object" else object
        if value is not None and not isinstance(value, expected):
            raise _BrokenLine(f'its "{field.name}" is of type {type(value).__name__}, not a {expected.__name__}')
        must_be_text = options.only_text or isinstance(value, (list, dict))
        if kind == "text" and value is not None and not isinstance(value, str) and must_be_text:
            raise _BrokenLine(f'its "{field.name}" is of type {type(value).__name__}, not a string')
    return {name: row.get(name) for name in schema.names}


def table_of(rows: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> pa.Table:
    """Return objects as a table, of the columns of a schema or of all their keys in the order they come in.

    A column of numbers here and texts there is one of texts.
    """
    names = schema.names if schema else list(dict.fromkeys(name for row in rows for name in row))
    return pa.table({name: _column_of([row.get(name) for row in rows]) for name in names})


def _column_of(values: list[Any]) -> pa.Array:
    """Return the values of a column with the type they share, else as text."""
    kinds = {type(value) for value in values if value is not None}
    try:
        if kinds <= {str}:
            return pa.array(values, pa.string())
        if kinds in ({bool}, {int}, {float}, {int, float}) or kinds in ({list}, {dict}):
            return pa.array(values)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        pass
    if kinds == {list}:
        lists = [None if value is None else [as_text(one) for one in value] for value in values]
        return pa.array(lists, pa.list_(pa.string()))
    if kinds == {dict}:
        return pa.array([None if v is None else {key: as_text(one) for key, one in v.items()} for v in values])
    return pa.array([None if value is None else as_text(value) for value in values], pa.string())
