"""Turns lists that were written into one cell, as pandas, JSON or a blank between words do it, into their items."""

from __future__ import annotations

import ast
import json
import re

BLANK = re.compile(r"[ \t\r\n]+")
ITEM = r"""u?'(?:[^'\\]|\\.)*'|u?"(?:[^"\\]|\\.)*"|-?\d+"""
ITEMS = re.compile(rf"\[\s*+(?:(?:{ITEM})(?:\s*+,\s*+|\s++|(?=\])))*+\]", re.DOTALL)
"""A list as Python or numpy prints it, with or without commas; nothing is tried twice: long cells take no time."""
SIGNS = (",", ";", "|")
"""What may stand between tags instead of blanks."""


def listed(text: str) -> list[str] | None:
    r"""Return the items of a list that is written out in JSON, by Python or by numpy; None where the text is no list.

    >>> listed("['New' 'York\\'s']")
    ['New', "York's"]
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        return _printed(text)
    plain = isinstance(items, list) and all(isinstance(item, str | int) for item in items)
    return [str(item) for item in items] if plain else None


def _printed(text: str) -> list[str] | None:
    if not ITEMS.fullmatch(text):
        return None
    try:
        return [str(ast.literal_eval(item)) for item in re.findall(ITEM, text, re.DOTALL)]
    except (ValueError, SyntaxError):
        return None


def words_of(text: str) -> list[str]:
    """Return the words of a cell: those of a list that is written out, else those with blanks between."""
    items = listed(text)
    return [word for word in BLANK.split(text) if word] if items is None else items


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
