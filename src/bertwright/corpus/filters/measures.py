"""Turns documents into figures of their quality: words, symbols, digits, lines, and what they repeat.

Every figure is arithmetic on whole arrays of bytes, words and lines. A document without any of a thing has fraction 0.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.dedup.hashes import BETWEEN, bytes_of, hash_documents, kinds_of, mixed, shingles_of, word_hashes

BULLET = "^[•●▪■‣·*–-] "
ELLIPSIS = r"(?:…|\.\.\.)$"


class Characters:
    """How many letters, digits and symbols each of N texts has, [N] int64."""

    def __init__(self, texts: pa.StringArray) -> None:
        """Count them, by the first byte of each character."""
        data, bounds = bytes_of(texts)
        leads = (data & 0xC0) != 0x80
        digits = (data >= 48) & (data <= 57)
        letters = leads & (kinds_of(data) != BETWEEN) & ~digits
        self.letters, self.digits = _sums(letters, bounds), _sums(digits, bounds)
        self.symbols = _sums(leads & (data > 32), bounds) - self.letters - self.digits
        self.hashes = _sums(data == ord("#"), bounds)

    @property
    def total(self) -> np.ndarray:
        """Return how many characters there are but for blanks."""
        return np.asarray(self.letters + self.digits + self.symbols)


class Measures:
    """The figures of D documents, none empty, each worked out when it is needed."""

    def __init__(self, texts: pa.StringArray) -> None:
        """Take the documents and find their lines."""
        self._texts = texts
        lists = pc.split_pattern(texts, "\n")
        lines = lists.flatten()
        full = np.asarray(pc.binary_length(lines).to_numpy(zero_copy_only=False) > 0)
        counts = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        self._owners = np.repeat(np.arange(len(texts)), counts)[full]
        self._lines = lines.filter(pa.array(full))

    @cached_property
    def _characters(self) -> Characters:
        return Characters(self._texts)

    @cached_property
    def _words(self) -> tuple[np.ndarray, np.ndarray]:
        return word_hashes(self._texts)

    @cached_property
    def _repeated_lines(self) -> np.ndarray:
        return _repeated(self._owners, hash_documents(self._lines))

    def words(self) -> np.ndarray:
        """Return the number of words (of characters, in writing without blanks), [D]."""
        return self._words[1]

    def word_length(self) -> np.ndarray:
        """Return letters and digits a word, [D]."""
        return _fraction(self._characters.letters + self._characters.digits, self.words())

    def symbols(self) -> np.ndarray:
        """Return the fraction of characters that are neither letters nor digits, [D]."""
        return _fraction(self._characters.symbols, self._characters.total)

    def digits(self) -> np.ndarray:
        """Return the fraction of characters that are digits, [D]."""
        return _fraction(self._characters.digits, self._characters.total)

    def hashes(self) -> np.ndarray:
        """Return signs # a word, [D]."""
        return _fraction(self._characters.hashes, self.words())

    def bullet_lines(self) -> np.ndarray:
        """Return the fraction of lines that begin with a bullet, [D]."""
        return self._fraction_of_lines(pc.match_substring_regex(self._lines, BULLET))

    def ellipsis_lines(self) -> np.ndarray:
        """Return the fraction of lines that end with an ellipsis, [D]."""
        return self._fraction_of_lines(pc.match_substring_regex(self._lines, ELLIPSIS))

    def repeated_lines(self) -> np.ndarray:
        """Return the fraction of lines that stand earlier in the same document, [D]."""
        return self._fraction_of_lines(self._repeated_lines)

    def repeated_line_characters(self) -> np.ndarray:
        """Return the fraction of bytes in such lines, [D]."""
        sizes = pc.binary_length(self._lines).to_numpy(zero_copy_only=False)
        count = len(self._texts)
        repeated = np.bincount(self._owners, weights=sizes * self._repeated_lines, minlength=count)
        return _fraction(repeated, np.bincount(self._owners, weights=sizes, minlength=count))

    def repeated_sequences(self) -> np.ndarray:
        """Return the fraction of five-word sequences that stand earlier in the same document, [D]."""
        hashes, counts = shingles_of(*self._words)
        owners = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
        keyed = (owners << np.uint64(32)) | (hashes >> np.uint64(32))
        keyed.sort()
        again = keyed[1:][keyed[1:] == keyed[:-1]] >> np.uint64(32)
        return _fraction(np.bincount(again.astype(np.int64), minlength=len(counts)), counts)

    def _fraction_of_lines(self, chosen: pa.BooleanArray | np.ndarray) -> np.ndarray:
        count = len(self._texts)
        weights = np.asarray(chosen).astype(np.float64)
        return _fraction(np.bincount(self._owners, weights, count), np.bincount(self._owners, minlength=count))


MEASURES: dict[str, Callable[[Measures], np.ndarray]] = {
    "words": Measures.words,
    "word-length": Measures.word_length,
    "symbols": Measures.symbols,
    "digits": Measures.digits,
    "hashes": Measures.hashes,
    "bullet-lines": Measures.bullet_lines,
    "ellipsis-lines": Measures.ellipsis_lines,
    "repeated-lines": Measures.repeated_lines,
    "repeated-line-characters": Measures.repeated_line_characters,
    "repeated-sequences": Measures.repeated_sequences,
}


def line_letters(lines: pa.StringArray) -> np.ndarray:
    """Return the fraction of letters among the characters of each line, [L]."""
    characters = Characters(lines)
    return _fraction(characters.letters, characters.total)


def _sums(chosen: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    return np.diff(np.concatenate([[0], np.cumsum(chosen, dtype=np.int32)])[bounds])


def _fraction(count: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.asarray(count / np.maximum(whole, 1))


def _repeated(owners: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return which hashes stand earlier with the same owner, [N] bool."""
    keys = mixed(hashes ^ mixed(owners.astype(np.uint64) + np.uint64(1)))
    order = np.argsort(keys, kind="stable")
    again = np.zeros(len(keys), dtype=bool)
    again[order[1:]] = keys[order[1:]] == keys[order[:-1]]
    return again
