"""Turns columns of any type into text: cells, labels, words; the same value is the same text whatever the format.

A list that was written into one cell, as pandas, JSON or blanks between words do it, is taken apart here too.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import CorpusError

Kind = Literal["text", "number", "list", "object", "other"]
"""What a column holds: text, numbers or truth values, lists, objects (structs, maps), or what has no text."""
PADDING = " \t\r\n\v\f\u00a0\u3000\u200b\ufeff"
"""What stands around a label and is no part of it."""
_WHOLE = re.compile(r"([+-]?\d+)\.0+")


def kind_of(kind: pa.DataType) -> Kind:
    """Return what a column of a type holds."""
    types = pa.types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return "text"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind) or types.is_list_view(kind):
        return "list"
    if types.is_struct(kind) or types.is_map(kind) or types.is_union(kind):
        return "object"
    return "number" if types.is_boolean(kind) or types.is_primitive(kind) or types.is_decimal(kind) else "other"


def as_texts(column: pa.Array | pa.ChunkedArray) -> list[str]:
    """Return a column as text: numbers as short as they can be written, lists and objects as JSON, null as "".

    No number (NaN), which pandas writes for nothing, is nothing.
    """
    kind = column.type
    if kind_of(kind) in ("list", "object"):
        return [json.dumps(cell, ensure_ascii=False, default=str) if cell else "" for cell in column.to_pylist()]
    if pa.types.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column)
    if pa.types.is_dictionary(kind) and kind_of(kind) != "text":
        column = pc.cast(column, kind.value_type)
    try:
        column = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return ["" for _ in range(len(column))]
    texts: list[str] = pc.fill_null(column, "").to_pylist()
    return texts


def as_text(value: Any) -> str:
    """Return a value of JSON as `as_texts` writes it."""
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False) if value not in ([], {}) else ""


def as_label(cell: str) -> str:
    """Return a cell as the name of a label: blanks around it taken off, 0.0 as 0, True as true.

    >>> [as_label(cell) for cell in ("1.0", " 1", "True", "very good", "1.5")]
    ['1', '1', 'true', 'very good', '1.5']
    """
    label = cell.strip(PADDING)
    whole = _WHOLE.fullmatch(label)
    if whole:
        return str(int(whole[1]))
    return label.lower() if label.lower() in ("true", "false") else label


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of labels that Hugging Face `datasets` wrote beside columns of their numbers."""
    try:
        written = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = written["info"]["features"]
        found = {name: _names_in(feature) for name, feature in features.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
    return {name: names for name, names in found.items() if names}


def _names_in(feature: Any) -> list[str]:
    """Return the names of a class label, alone or in a list of them."""
    while isinstance(feature, list) and len(feature) == 1:
        feature = feature[0]
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
    return _names_in(feature["feature"]) if "feature" in feature else []


def with_class_names(table: pa.Table, names: dict[str, list[str]], *, path: Any) -> pa.Table:
    """Return a table whose columns of label numbers hold the labels' names; -1, which stands for none, is null."""
    for name, labels in names.items():
        place = table.schema.get_field_index(name)
        if place < 0:
            continue
        column = table.column(place)
        try:
            table = table.set_column(place, name, _named(column, labels))
        except (IndexError, TypeError) as error:
            raise CorpusError(
                f"{path} has a {name} that is none of its {len(labels)} labels ({', '.join(labels[:5])}, ...); write "
                "the file again with `datasets`"
            ) from error
    return table


def _named(column: pa.ChunkedArray, labels: list[str]) -> pa.Array | pa.ChunkedArray:
    if pa.types.is_integer(column.type):
        numbers = pc.if_else(pc.less(column, 0), pa.scalar(None, column.type), column)
        return pc.take(pa.array(labels, pa.string()), numbers)
    if kind_of(column.type) == "list" and pa.types.is_integer(column.type.value_type):
        rows = column.to_pylist()
        named = [
            row if row is None else [labels[one] if one is not None and one >= 0 else None for one in row]
            for row in rows
        ]
        return pa.array(named, pa.list_(pa.string()))
    return column


BLANK = re.compile(r"[ \t\r\n]+")
NUMBER = r"[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+"
ITEM = rf"""u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*"|{NUMBER}|True|False|None|nan"""
ITEMS = re.compile(rf"\[\s*+(?:(?:{ITEM})(?:\s*+,\s*+|\s++|(?=\])))*+\]", re.DOTALL)
"""A list as Python or numpy prints it, with or without commas; nothing is tried twice: long cells take no time."""
_WRITTEN_LIST = re.compile(r"""\[\s*(?:u?["'].*["']\s*,?)?\s*\]""", re.DOTALL)
SIGNS = (",", ";", "|")
"""What may stand between tags instead of blanks."""


def list_items(text: str) -> list[Any] | None:
    r"""Return the items of a list that is written out in JSON, by Python or by numpy; None where the text is no list.

    Items are texts, numbers, truth values and None; a list of lists or objects is none. `as_text` names items.

    >>> list_items("['New' 'York\\'s']"), list_items("[1. 0.]"), list_items("['a', None, True]")
    (['New', "York's"], [1.0, 0.0], ['a', None, True])
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return _printed(text)
    return None if any(isinstance(item, list | dict) for item in items) else list(items)


def _printed(text: str) -> list[Any] | None:
    if not ITEMS.fullmatch(text):
        return None
    try:
        return [None if item == "nan" else ast.literal_eval(item) for item in re.findall(ITEM, text, re.DOTALL)]
    except (ValueError, SyntaxError):
        return None


def are_written_lists(cells: Iterable[str]) -> bool:
    """Return whether cells that should be texts all hold lists of quoted words, as pandas writes a column of lists."""
    held = [cell.strip() for cell in cells if cell.strip()]
    return bool(held) and all(map(_WRITTEN_LIST.fullmatch, held)) and any(len(cell) > 2 for cell in held)


def join_words(cells: Sequence[str], *, where: str) -> list[str]:
    """Return texts from cells that are lists of words, joined by blanks; raises CorpusError where one is none.

    `where` names the column and its file.
    """
    texts = []
    for row, cell in enumerate(cells, start=1):
        words = list_items(cell) if cell.strip() else []
        if words is None or not all(isinstance(word, str) for word in words):
            raise CorpusError(
                f"{where} holds lists, of which that of row {row:,} is no list of words ({cell[:60]!r}); "
                "give a column of texts, or lists of words"
            )
        texts.append(" ".join(words))
    return [replace_surrogates(text) for text in texts]


def cell_words(text: str) -> list[str]:
    """Return the words of a cell: those of a list that is written out, else those with blanks between."""
    items = list_items(text)
    return [word for word in BLANK.split(text) if word] if items is None else list(map(as_text, items))


def tags_of(text: str, count: int) -> list[str]:
    """Return the tags of a cell for so many words; commas, semicolons or bars may stand between them."""
    items = cell_words(text)
    if list_items(text) is not None:
        return items
    ended = any(all(item.endswith(sign) for item in items[:-1]) for sign in SIGNS) and len(items) > 1
    if len(items) == count and not ended:
        return items
    others = ([tag.strip() for tag in text.split(sign)] for sign in SIGNS)
    return next((tags for tags in others if len(tags) == count), items)
