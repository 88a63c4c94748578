"""Turns text with halves of surrogate pairs, which are no characters, into text with U+FFFD in their place.

They come from "\\ud83d" alone in JSON, from bytes of other programs, and from arguments that are no UTF-8.
"""

from __future__ import annotations

import json
import re
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""What follows a backslash; its group is half a pair that stands alone."""
_MAY_BE_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF_IN_BYTES = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")


def replace_surrogates(text: str) -> str:
    """Return a text whose halves of pairs are joined where both stand there, and U+FFFD where one stands alone.

    >>> replace_surrogates("a \\ud83d b")
    'a \ufffd b'
    """
    if not _HALF.search(text):
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def replace_surrogate_bytes(data: bytes) -> bytes:
    """Return UTF-8 whose encoded halves of pairs are handled as `replace_surrogates` does, all else as it is."""
    if not _HALF_IN_BYTES.search(data):
        return data
    return re.sub(rb"(?:\xed[\xa0-\xbf][\x80-\xbf])+", _joined_bytes, data)


def _joined_bytes(found: re.Match[bytes]) -> bytes:
    return replace_surrogates(found[0].decode("utf-8", "surrogatepass")).encode()


def replace_surrogate_escapes(data: bytes) -> bytes:
    """Return JSON, its size unchanged, with \\ufffd for every escape that is half a pair alone."""
    if not _MAY_BE_HALF.search(data):
        return data
    return _ESCAPE.sub(lambda found: b"\\ufffd" if found[1] else found[0], data)


def parse_json(data: bytes | str) -> Any:
    """Return a JSON value in which every text is whole characters; raises ValueError or RecursionError.

    >>> parse_json('{"a": "\\\\ud83d"}')
    {'a': '\ufffd'}
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    return json.loads(replace_surrogate_escapes(replace_surrogate_bytes(raw)))
