"""Turns a whole file into a damaged or hostile one by a few mutations, each three numbers that hypothesis draws.

Bytes are flipped, cut, repeated, moved, and overwritten with numbers that break sums of sizes; values of JSON are
replaced by ones of other types and sizes, taken out, repeated, and nested.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

Mutation = tuple[int, int, int]
"""(which, where, what): each any number from 0 to 2^32."""

NUMBERS = (0, 1, -1, 127, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**60, 2**63 - 1)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 3, 0.5, 1e308, float("nan"), float("inf"), 2**31, 2**60, 2**200, -(2**63), "", "a",
    "../../x", "/etc/passwd", "a\0b", "\ud800", "x" * 50_000, [], {}, [[]], [0], [None], {"a": {}}, [1, "a", {}],
    "[UNK]",
)  # fmt: skip
MARKS = (
    b"\0",
    b"\xff",
    b"\n",
    b"\r\n",
    b'"',
    b"{",
    b"}",
    b"[",
    b",",
    b"\t",
    b"<",
    b"&",
    b"\xf0\x9f\x98\x80",
    b"\xed\xa0\x80",
)


def flip(data: bytearray, where: int, what: int) -> None:
    """Change one bit."""
    data[where % len(data)] ^= 1 << what % 8


def cut(data: bytearray, where: int, what: int) -> None:
    """Take out a stretch, or everything from a place on."""
    at = where % len(data)
    del data[at : len(data) if what % 3 == 0 else at + 1 + what % 64]


def overwrite(data: bytearray, where: int, what: int) -> None:
    """Write a number that breaks sums of sizes, of 1, 2, 4 or 8 bytes."""
    width = (1, 2, 4, 8)[what % 4]
    number = NUMBERS[what // 4 % len(NUMBERS)] % (1 << 8 * width)
    at = where % len(data)
    data[at : at + width] = number.to_bytes(width, "little")


def repeat(data: bytearray, where: int, what: int) -> None:
    """Put a stretch in once more, or many times."""
    at = where % len(data)
    stretch = bytes(data[at : at + 1 + what % 40])
    data[at:at] = stretch * (1 if what % 5 else 300)


def insert(data: bytearray, where: int, what: int) -> None:
    """Put in a mark that means something."""
    at = where % len(data)
    data[at:at] = MARKS[what % len(MARKS)] * (1 + what // 16 % 3)


def move(data: bytearray, where: int, what: int) -> None:
    """Write one stretch over another."""
    start, at, size = what % len(data), where % len(data), 1 + what % 32
    data[at : at + size] = data[start : start + size]


BYTES: tuple[Callable[[bytearray, int, int], None], ...] = (flip, cut, overwrite, repeat, insert, move)


def mutated(data: bytes, mutations: list[Mutation], *, is_json: bool = False) -> bytes:
    """Return the file after the mutations; half of those of JSON change its values, and not its bytes."""
    for which, where, what in mutations:
        if is_json and which % 2:
            changed = _mutated_json(data, which // 2, where, what)
            if changed is not None:
                data = changed
                continue
        if not data:
            return b""
        held = bytearray(data)
        BYTES[which // 2 % len(BYTES)](held, where, what)
        data = bytes(held)
    return data


def _mutated_json(data: bytes, which: int, where: int, what: int) -> bytes | None:
    """Return JSON with one value changed; None where it is none any more."""
    try:
        tree = [json.loads(data)]
    except (ValueError, RecursionError):
        return None
    places = list(_places(tree))
    holder, key = places[where % len(places)]
    if which % 16 == 12 and isinstance(holder, dict):
        holder[("x" * 50_000, "", "\ud800", key * 40)[what % 4]] = holder.pop(key)
    elif which % 4 == 0 and holder is not tree:
        del holder[key]
    elif which % 4 == 1:
        holder[key] = copy.deepcopy(_at(places, what))
    elif which % 8 == 2:
        for _ in range(what % 60):
            holder[key] = [holder[key]]
    else:
        holder[key] = copy.deepcopy(VALUES[what % len(VALUES)])
    try:
        return json.dumps(tree[0]).encode()
    except (ValueError, RecursionError):
        return None


def _at(places: list[tuple[Any, Any]], what: int) -> Any:
    holder, key = places[what % len(places)]
    return holder[key]


def _places(tree: list[Any]) -> list[tuple[Any, Any]]:
    """Return every place of a value in a tree, as its holder and the key there; at most 2,000 of them."""
    places: list[tuple[Any, Any]] = []
    waiting: list[tuple[Any, Any]] = [(tree, 0)]
    while waiting and len(places) < 2000:
        holder, key = waiting.pop(0)
        places.append((holder, key))
        value = holder[key]
        keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        waiting.extend((value, inner) for inner in keys)
    return places
