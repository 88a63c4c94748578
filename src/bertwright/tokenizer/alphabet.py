"""Turns text into the alphabet of a vocabulary: the characters worth a token of their own.

English is covered by a hundred characters, Chinese by some six thousand; the choice follows the text, not a language
code, so that mixed corpora come out right too.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

CODE_POINTS = 0x110000
COVERAGE = 0.9999
COMMON = 1000

CJK_RANGES = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""The blocks BERT's pre-tokenizer sets apart character by character (Devlin et al. 2018, tokenization.py)."""


@dataclass(frozen=True)
class CharacterCounts:
    """How often each code point occurs [1114112], and how often right after something other than a blank."""

    total: np.ndarray
    continuing: np.ndarray


def is_cjk(character: str) -> bool:
    """Return True for a character that BERT's pre-tokenizer makes a word of its own."""
    point = ord(character)
    return any(first <= point <= last for first, last in CJK_RANGES)


@cache
def standing_alone() -> np.ndarray:
    """Return for each code point whether it is ASCII, a blank, a mark or a CJK character, bool [1114112].

    Words made of these are cut alike by a dictionary and by BERT's pre-tokenizer; all marks lie below U+20000.
    """
    alone = np.zeros(CODE_POINTS, dtype=bool)
    alone[:128] = True
    alone[128:0x20000] = [unicodedata.category(chr(point))[0] in "PZ" for point in range(128, 0x20000)]
    for first, last in CJK_RANGES:
        alone[first : last + 1] = True
    return alone


def code_points(text: str) -> np.ndarray:
    """Return the code points of a text, uint32; lone surrogates stand as themselves."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)


def count_characters(texts: Iterable[str | Sequence[str]]) -> CharacterCounts:
    """Count the characters of strings or lists of strings; about 250 MB/s."""
    total = np.zeros(CODE_POINTS, dtype=np.int64)
    continuing = np.zeros(CODE_POINTS, dtype=np.int64)
    for item in texts:
        points = code_points(item if isinstance(item, str) else "\n".join(item))
        if len(points):
            _add(total, points)
            _add(continuing, points[1:][points[:-1] > ord(" ")])
    return CharacterCounts(total, continuing)


def choose_alphabet(
    counts: CharacterCounts, normalize: Callable[[str], str], *, room: int
) -> tuple[list[str], list[str]]:
    """Return the characters to keep, and those of them that also occur inside words, both sorted.

    Kept are the most frequent characters after `normalize`: the first 1,000, and more until 99.99% of the text is
    covered, as long as they and their continuations take no more than `room` tokens.
    """
    total: Counter[str] = Counter()
    inside: set[str] = set()
    for point in np.flatnonzero(counts.total).tolist():
        characters = [c for c in normalize(chr(point)) if not c.isspace()]
        for place, character in enumerate(characters):
            total[character] += int(counts.total[point])
            if (place or counts.continuing[point]) and _may_continue(character):
                inside.add(character)
    kept = _most_frequent(total, inside, room)
    return sorted(kept), sorted(kept & inside)


def _most_frequent(total: Counter[str], inside: set[str], room: int) -> set[str]:
    wanted = COVERAGE * total.total()
    kept: set[str] = set()
    covered = 0
    for character, count in sorted(total.items(), key=lambda item: (-item[1], item[0])):
        room -= 2 if character in inside else 1
        if room < 0 or (len(kept) >= COMMON and covered >= wanted):
            break
        kept.add(character)
        covered += count
    return kept


def _may_continue(character: str) -> bool:
    """Return False for what the pre-tokenizer always cuts off: punctuation and CJK characters."""
    ascii_symbol = character.isascii() and not character.isalnum()
    return not (ascii_symbol or unicodedata.category(character).startswith("P") or is_cjk(character))


def _add(counts: np.ndarray, points: np.ndarray) -> None:
    found = np.bincount(points)
    counts[: len(found)] += found
