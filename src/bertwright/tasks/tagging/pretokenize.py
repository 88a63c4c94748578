"""Cuts running text into words as CoNLL files have them: signs apart, but not those within a word."""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import cache

_CHINESE = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"


@cache
def _pattern() -> re.Pattern[str]:
    """Return what a word looks like; made on first use, since finding all combining marks takes a quarter of a second.

    In turn: a Chinese character; an abbreviation with its stops, as "U.S."; letters and digits with the marks on them,
    joined by signs as in "3-0", "1,000" and "O'Brien", but for English endings, which come next: "'s"; any other sign.
    """
    marks = "".join(map(chr, (c for c in range(sys.maxunicode + 1) if unicodedata.category(chr(c)).startswith("M"))))
    run = rf"(?:[^\W_{_CHINESE}][{marks}\u200c\u200d]*)+"
    joined = rf"{run}(?:(?:[-/.,]|['’](?!(?:s|t|d|m|re|ve|ll)\b)){run})*"
    return re.compile(rf"[{_CHINESE}]|(?:[^\W\d_]\.)+(?=\s|$)|{joined}|['’][^\W_]+|\S")


class PreTokenized(tuple[str, ...]):
    """The words of a sentence that somebody has cut already; they are taken as they are."""

    __slots__ = ()


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return the characters [begin, end) of each word of a text; of a text without any, all of it."""
    return [match.span() for match in _pattern().finditer(text)] or [(0, len(text))]
