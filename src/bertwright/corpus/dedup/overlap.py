"""Finds which texts, of a test or held out, stand in a corpus too: by thirteen words in a row, or whole where shorter.

Thirteen words are what Brown et al. 2020 ("Language Models are Few-Shot Learners", appendix C) look for. The corpus
streams past; in memory there are only hashes of the texts looked for. A place is looked at in full where five words
agree, so that a corpus goes by at the speed of hashing its words once.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from bertwright.corpus.dedup.hashes import mixed, word_hashes
from bertwright.tokenizer.ragged import ranges

WORDS = 13
"""Words in a row that no two texts have in common by chance."""
SHORTEST = 5
"""Words of the shortest text that is looked for."""
_WEIGHTS = mixed(np.arange(1, WORDS + 1, dtype=np.uint64)) | np.uint64(1)


class Overlap:
    """Looks for texts [U] in a corpus that is shown batch by batch.

    >>> overlap = Overlap(pa.array(["Who wrote the book on the table?"]))
    >>> overlap.look(pa.array(["He asked: who wrote the book on the table? I did."]))
    >>> overlap.found_fractions()
    array([1.])
    """

    def __init__(self, texts: pa.StringArray) -> None:
        """Hash all thirteen words in a row of each text, and all words of one of five to twelve."""
        words, counts = word_hashes(texts)
        starts = np.cumsum(counts) - counts
        each = np.where(counts >= SHORTEST, np.maximum(counts - WORDS + 1, 1), 0)
        self.sequences = each
        self._owners = np.repeat(np.arange(len(counts)), each)
        places = ranges(starts, each)
        lengths = np.minimum(counts, WORDS)[self._owners]
        padded = np.concatenate([words, np.zeros(WORDS, np.uint64)])
        self._lengths = np.unique(lengths)
        self._firsts = np.unique(_hashes(padded, places, SHORTEST))
        self._wanted: dict[int, np.ndarray] = {}
        self._found: dict[int, np.ndarray] = {}
        self._which = np.zeros(len(places), dtype=np.int64)
        self._of_length = lengths
        for length in self._lengths.tolist():
            mine = lengths == length
            self._wanted[length], self._which[mine] = np.unique(
                _hashes(padded, places[mine], length), return_inverse=True
            )
            self._found[length] = np.zeros(len(self._wanted[length]), dtype=bool)

    def look(self, corpus: pa.StringArray) -> None:
        """Mark what stands in some more documents of the corpus."""
        words, counts = word_hashes(corpus)
        if not len(self._firsts) or len(words) < SHORTEST:
            return
        padded = np.concatenate([words, np.zeros(WORDS, np.uint64)])
        places = np.flatnonzero(_within(_hashes(padded, np.arange(len(words)), SHORTEST), self._firsts)[0])
        room = np.repeat(np.cumsum(counts), counts)[places] - places
        for length in self._lengths.tolist():
            here, at = _within(_hashes(padded, places[room >= length], length), self._wanted[length])
            self._found[length][at[here]] = True

    def found_fractions(self) -> np.ndarray:
        """Return the fraction of each text's sequences that were found, [U]; 0 for texts of under five words."""
        found = np.zeros(len(self._which), dtype=bool)
        for length, marks in self._found.items():
            mine = self._of_length == length
            found[mine] = marks[self._which[mine]]
        return np.asarray(np.bincount(self._owners, found, len(self.sequences)) / np.maximum(self.sequences, 1))

    def found_texts(self) -> tuple[int, int]:
        """Return how many texts were looked for, those of under five words left out, and how many found in part."""
        looked_for = self.sequences > 0
        return int(looked_for.sum()), int((self.found_fractions()[looked_for] > 0).sum())


def _hashes(padded: np.ndarray, places: np.ndarray, length: int) -> np.ndarray:
    """Return the hash of `length` words from each place on, [P] uint64."""
    hashes = np.zeros(len(places), dtype=np.uint64)
    for offset in range(length):
        hashes += padded[places + offset] * _WEIGHTS[offset]
    return mixed(hashes)


def _within(values: np.ndarray, ordered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which values stand in an ordered array, [N] bool, and where each would, [N] int64."""
    at = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return ordered[at] == values, at
