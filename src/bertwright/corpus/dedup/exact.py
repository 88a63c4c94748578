"""Tells which documents were seen before and which are held out, by a hash of their text, in bounded memory."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from bertwright.corpus.dedup.hash_store import SortedRuns


def hash_documents(texts: pa.StringArray) -> np.ndarray:
    """Return the 64-bit xxh3 hash of each document's UTF-8 bytes, [D] uint64; equal hashes count as equal texts.

    Among a billion different documents the chance of any two meeting in one hash is 3% (n^2 / 2^65).
    """
    buffers = texts.buffers()
    ends = np.frombuffer(buffers[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(buffers[2] or b"")
    hashes = (xxhash.xxh3_64_intdigest(data[start:end]) for start, end in pairwise(ends))
    return np.fromiter(hashes, dtype=np.uint64, count=len(texts))


def valid_documents(hashes: np.ndarray, share: float) -> np.ndarray:
    """Return which documents belong to the held-out split, [D] bool: a `share` of all, whatever their order."""
    return (hashes >> np.uint64(11)).astype(np.float64) < share * 2.0**53


class SeenDocuments:
    """The hashes of all documents seen so far, 8 bytes each, in a folder that belongs to it."""

    def __init__(self, folder: Path, saved: dict[str, int]) -> None:
        """Take up a state that `save` returned ({} for none); raises CorpusError where its files are damaged."""
        self._hashes = SortedRuns(folder, saved, numbered=False)

    def __len__(self) -> int:
        """Return how many different documents were seen."""
        return len(self._hashes)

    def first_seen(self, hashes: np.ndarray) -> np.ndarray:
        """Return which documents were not seen before, neither earlier nor earlier in `hashes`, and remember them.

        `hashes` is [D] uint64; the answer is [D] bool.
        """
        distinct, first = np.unique(hashes, return_index=True)
        new = self._hashes.find(distinct) == 0
        self._hashes.add(distinct[new])
        answer = np.zeros(len(hashes), dtype=bool)
        answer[first[new]] = True
        return answer

    def save(self) -> dict[str, int]:
        """Write everything to disk; return what a later process needs to take it up."""
        return self._hashes.save()

    def settle(self) -> None:
        """Let go of the state before the one that `save` returned last."""
        self._hashes.settle()
