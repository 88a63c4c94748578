"""Turns JSON lines into the rows of a table, typed where they can be; values that do not agree are text.

A block is parsed at once; only where that fails, line by line, to say which line it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from bertwright.corpus.readers.blocks import ByteBlock, join_parts
from bertwright.corpus.readers.cells import as_text, kind_of
from bertwright.corpus.readers.characters import parse_json
from bertwright.corpus.readers.encoding import AS_UTF8, fault_in, not_text
from bertwright.corpus.readers.json_lines import DEEPEST, depth_of, open_json, refuse_nested
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import SAMPLE_ROWS, TableOptions, TableRows
from bertwright.errors import CorpusError

SOME_ROWS = 1024
"""Rows that are objects at a time."""
EXACT = 1 << 53
"""From here on a float skips whole numbers."""


class _BrokenLine(Exception):
    """A line that holds no row; its text is the reason."""


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
    data = join_parts((block.data for block in blocks), path)
    yield ByteBlock(data, 0, len(data))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column as it is read: text where the first rows have no value."""
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
        if line.count(b"[") + line.count(b"{") > DEEPEST and depth_of(line) > DEEPEST:
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
