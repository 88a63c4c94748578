"""Turns lists that were written into one cell, as pandas, JSON or a blank between words do it, into their items."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from bertwright.corpus.readers.cells import as_text
from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.errors import CorpusError

BLANK = re.compile(r"[ \t\r\n]+")
NUMBER = r"[-+]?(?:\d++(?:\.\d*+)?+|\.\d++)(?:[eE][-+]?\d++)?+"
ITEM = rf"""u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*"|{NUMBER}|True|False|None|nan"""
ITEMS = re.compile(rf"\[\s*+(?:(?:{ITEM})(?:\s*+,\s*+|\s++|(?=\])))*+\]", re.DOTALL)
"""A list as Python or numpy prints it, with or without commas; nothing is tried twice: long cells take no time."""
_WRITTEN_LIST = re.compile(r"""\[\s*(?:u?["'].*["']\s*,?)?\s*\]""", re.DOTALL)
SIGNS = (",", ";", "|")
"""What may stand between tags instead of blanks."""


def listed(text: str) -> list[Any] | None:
    r"""Return the items of a list that is written out in JSON, by Python or by numpy; None where the text is no list.

    Items are texts, numbers, truth values and None; a list of lists or objects is none. `as_text` names items.

    >>> listed("['New' 'York\\'s']"), listed("[1. 0.]"), listed("['a', None, True]")
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
        words = listed(cell) if cell.strip() else []
        if words is None or not all(isinstance(word, str) for word in words):
            raise CorpusError(
                f"{where} holds lists, of which that of row {row:,} is no list of words ({cell[:60]!r}); "
                "give a column of texts, or lists of words"
            )
        texts.append(" ".join(words))
    return [replace_surrogates(text) for text in texts]


def words_of(text: str) -> list[str]:
    """Return the words of a cell: those of a list that is written out, else those with blanks between."""
    items = listed(text)
    return [word for word in BLANK.split(text) if word] if items is None else list(map(as_text, items))


def tags_of(text: str, count: int) -> list[str]:
    """Return the tags of a cell for so many words; commas, semicolons or bars may stand between them."""
    items = words_of(text)
    if listed(text) is not None:
        return items
    ended = any(all(item.endswith(sign) for item in items[:-1]) for sign in SIGNS) and len(items) > 1
    if len(items) == count and not ended:
        return items
    others = ([tag.strip() for tag in text.split(sign)] for sign in SIGNS)
    return next((tags for tags in others if len(tags) == count), items)
