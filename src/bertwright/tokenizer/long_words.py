"""Turns the texts a vocabulary is trained on into texts without words of unbounded length, and counts such words.

A word is what a trainer counts as one: for WordPiece a run without blanks, marks and CJK characters, for byte-level BPE
a run of letters, of digits or of other characters, for Unigram a run without blanks. One of a million letters takes
minutes to train on, ends native code with a stack overflow, or becomes tokens of thousands of letters. Ordinary text
has no such words, and passes as it is.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

import numpy as np

from bertwright.tokenizer.alphabet import CODE_POINTS, code_points, standing_alone

Span = tuple[int, int]
Words = Callable[[str], Sequence[str]]

WORDPIECE_LONGEST = 100
"""Characters of a word after which BERT's WordPiece makes it unknown (Devlin et al. 2018, tokenization.py)."""
LONGEST_GROWTH = 4
"""Characters that normalising makes of one, at most: a Hangul syllable becomes three."""
PIECE = 1000
"""Characters of a long word that BPE and Unigram train on as one."""
MOST_PIECES = 100
"""Pieces of one long word that are trained on, spread evenly over it."""
UNIGRAM_LONGEST = 4_000
"""Characters between two blanks that Unigram trains on as one: its time grows with their square, and its lattice is
freed by recursion, which overflows the stack at some 200,000."""
ENCODED = re.compile(r"[A-Za-z0-9+/=_-]{101,}")
ENCODED_LETTERS = 0.9
"""Fraction of letters and digits in base64; a line of dashes or a chain of hyphens has fewer."""
LAST_CATEGORY = 0x32000
"""Code points from here on are unassigned, or tags and private use."""

SPACE, LETTER, DIGIT, OTHER = range(4)


class TextsWithBoundedWords(ABC):
    """Texts, gone through as often as one likes, in which every word has a bounded length.

    characters, long_characters   counted in the pass that began last: of all texts, and of too long words in them
    example                       the beginning of one such word

    >>> list(WordPieceTexts(["a b", "x" * 101 + " c"], str.split))
    [['a b'], [' c']]
    """

    longest: int
    """Characters from which a word counts as long."""

    def __init__(self, texts: Iterable[str | Sequence[str]]) -> None:
        """Name the texts: strings, or lists of strings."""
        self._texts = texts
        self.characters = self.long_characters = 0
        self.example = ""

    @property
    def long_fraction(self) -> float:
        """The fraction of the characters that stand in too long words, from 0 to 1."""
        return self.long_characters / max(self.characters, 1)

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lists of texts; one that has a too long word comes in parts."""
        self.characters = self.long_characters = 0
        for item in self._texts:
            texts = [item] if isinstance(item, str) else list(item)
            self.characters += sum(map(len, texts))
            if self._suspicious(code_points("\n".join(texts))):
                texts = [text[begin:end] for text in texts for begin, end in self._kept(text) if end > begin]
            yield texts

    def _count(self, word: str) -> None:
        self.long_characters += len(word)
        self.example = self.example or word[:20]

    @abstractmethod
    def _suspicious(self, points: np.ndarray) -> bool:
        """Return quickly whether a text of these code points may have a too long word."""

    @abstractmethod
    def _kept(self, text: str) -> list[Span]:
        """Return the spans of a text to train on, in order, and count the too long words."""


class WordPieceTexts(TextsWithBoundedWords):
    """Texts without words of over 100 characters, which WordPiece makes unknown.

    base64 is left out whole, although the marks among its letters cut it into shorter words.
    """

    def __init__(self, texts: Iterable[str | Sequence[str]], words: Words, *, longest: int = WORDPIECE_LONGEST) -> None:
        """Name the texts, what cuts a run without blanks into normalised words, and how long these may be."""
        super().__init__(texts)
        self._words, self.longest = words, longest

    def _suspicious(self, points: np.ndarray) -> bool:
        return bool(len(_runs(_in_words_or_encoded()[points], self.longest // LONGEST_GROWTH)))

    def _kept(self, text: str) -> list[Span]:
        encoded = [match.span() for match in ENCODED.finditer(text) if _is_encoded(match[0])]
        runs = _runs(_in_words()[code_points(text)], self.longest // LONGEST_GROWTH).tolist()
        long = [(begin, end) for begin, end in runs if self._is_long(text[begin:end])]
        kept: list[Span] = []
        done = 0
        for begin, end in sorted([*encoded, *long]):
            if end > done:
                self._count(text[max(begin, done) : end])
                kept.append((done, max(begin, done)))
                done = end
        return [*kept, (done, len(text))]

    def _is_long(self, run: str) -> bool:
        return any(len(word) > self.longest for word in self._words(run))


class BpeTexts(TextsWithBoundedWords):
    """Texts in which a run of over 1,000 letters, digits or other characters comes in pieces."""

    longest = PIECE

    def _suspicious(self, points: np.ndarray) -> bool:
        return bool(len(_alike(_classes()[points], self.longest)))

    def _kept(self, text: str) -> list[Span]:
        return _in_pieces(text, _alike(_classes()[code_points(text)], self.longest), self._count)


class UnigramTexts(TextsWithBoundedWords):
    """Texts in which a run of over 1,000 characters that words or base64 are made of comes in pieces.

    Any run without blanks, such as a paragraph of Chinese, is cut after 4,000 characters.
    """

    longest = PIECE

    def _suspicious(self, points: np.ndarray) -> bool:
        return bool(len(self._long(points)) or len(_runs(points != ord(" "), UNIGRAM_LONGEST)))

    def _long(self, points: np.ndarray) -> np.ndarray:
        return _runs(_in_words_or_encoded()[points], self.longest)

    def _kept(self, text: str) -> list[Span]:
        spans = _in_pieces(text, self._long(code_points(text)), self._count)
        return [part for begin, end in spans for part in _cut_in_runs(text, begin, end)]


def _cut_in_runs(text: str, begin: int, end: int) -> list[Span]:
    """Cut a span of a text wherever it has UNIGRAM_LONGEST characters without a blank."""
    runs = begin + _runs(code_points(text[begin:end]) != ord(" "), UNIGRAM_LONGEST)
    places = [place for first, last in runs.tolist() for place in range(first + UNIGRAM_LONGEST, last, UNIGRAM_LONGEST)]
    return list(zip([begin, *places], [*places, end], strict=True))


def _in_pieces(text: str, long: np.ndarray, count: Callable[[str], None]) -> list[Span]:
    """Return the spans of a text with its long runs in pieces, evenly spread where there are too many of them."""
    kept: list[Span] = []
    done = 0
    for begin, end in long.tolist():
        count(text[begin:end])
        pieces = range(begin, end, PIECE)
        chosen = np.unique(np.linspace(0, len(pieces) - 1, min(len(pieces), MOST_PIECES)).round().astype(np.int64))
        kept.append((done, begin))
        kept += [(pieces[number], min(pieces[number] + PIECE, end)) for number in chosen.tolist()]
        done = end
    return [*kept, (done, len(text))]


def _is_encoded(run: str) -> bool:
    return sum(map(str.isalnum, run)) >= ENCODED_LETTERS * len(run)


def _runs(inside: np.ndarray, most: int) -> np.ndarray:
    """Return (begin, end) of the runs of True of more than `most` places, int64 [R, 2]; `inside` is bool [N]."""
    edges = np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2)
    runs: np.ndarray = edges[edges[:, 1] - edges[:, 0] > most]
    return runs


def _alike(classes: np.ndarray, most: int) -> np.ndarray:
    """Return (begin, end) of the runs of more than `most` equal classes that are no blanks, int64 [R, 2]."""
    edges = np.concatenate([[0], np.flatnonzero(np.diff(classes)) + 1, [len(classes)]])
    runs: np.ndarray = np.stack([edges[:-1], edges[1:]], axis=1)
    runs = runs[runs[:, 1] - runs[:, 0] > most]
    return runs[classes[runs[:, 0]] != SPACE, :]


@cache
def _in_words() -> np.ndarray:
    """Return for each code point whether it is no blank, mark or CJK, at which BERT ends a word, bool [1114112]."""
    inside: np.ndarray = ~standing_alone()
    inside[:128] = [chr(point).isalnum() for point in range(128)]
    return inside


@cache
def _in_words_or_encoded() -> np.ndarray:
    """Return for each code point whether it can stand in a word or in base64, bool [1114112]."""
    inside = _in_words().copy()
    inside[list(map(ord, "+/=_-"))] = True
    return inside


@cache
def _classes() -> np.ndarray:
    """Return SPACE, LETTER, DIGIT or OTHER for each code point, uint8 [1114112], as byte-level BPE's pattern does."""
    of_category = {"L": LETTER, "N": DIGIT, "Z": SPACE}
    classes = np.full(CODE_POINTS, OTHER, dtype=np.uint8)
    classes[:LAST_CATEGORY] = [
        of_category.get(unicodedata.category(chr(point))[0], OTHER) for point in range(LAST_CATEGORY)
    ]
    classes[[9, 10, 11, 12, 13, 0x85]] = SPACE
    return classes
