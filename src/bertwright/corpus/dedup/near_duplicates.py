"""Finds which documents are nearly equal to an earlier one: MinHash finds candidates, their shingles decide.

    shingles -> MinHash of 16 bands -> earlier document that is first with a band -> fraction of common shingles

Documents that agree in all of a few minima of random orders of their shingles are candidates (MinHash, Broder 1997;
banding, Indyk and Motwani 1998). Whether a candidate is a copy, the 1,024 smallest hashes of both decide: exactly
for documents of up to 1,024 different shingles, within 0.0125 (one standard deviation at 0.8) beyond (Bar-Yossef et al.
2002), where a third of that is required on top: text that is lost is worse than a copy that stays.

A document is compared with all earlier ones, removed ones too, so that copies of copies form one group, of which the
first is kept, and the answer depends on the order of documents alone. On disk a document takes 12 bytes a band it is
the first with, 8 for its place, and 4 a shingle, at most 4,296 bytes; in memory nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from rensa import RMinHash

from bertwright.corpus.dedup.hash_store import HashStore
from bertwright.corpus.dedup.hashes import mixed, shingles
from bertwright.errors import CorpusError
from bertwright.tokenizer.ragged import ranges

BANDS = 16
SKETCH = 1024
"""Smallest hashes kept of a document. Of Chinese documents of 14 kB and planted copies of similarities spread from 0.5
to 1: recall 0.974, precision 0.993; with 512 and half a deviation of doubt 0.943 and 0.988."""
DOUBT = 0.35
"""Standard deviations that an estimate must be above the threshold."""
FOUND = 0.985
"""Fraction of copies at the threshold itself that are candidates at least: 0.992 for 0.8, with 6 rows."""
SEED = 42
PAIRED = 1 << 20
"""Hashes of candidate pairs compared at a time: some 40 MB."""


def rows_of(threshold: float) -> int:
    """Return how many minima make up a band, as many as leave `FOUND` of the pairs at the threshold candidates.

    A pair of similarity s agrees in at least one of 16 bands of r minima with probability 1 - (1 - s^r)^16.
    """
    rows = 1
    while 1 - (1 - threshold ** (rows + 1)) ** BANDS >= FOUND:
        rows += 1
    return rows


@dataclass(frozen=True)
class Signatures:
    """What documents are compared by.

    bands     [D, 16] uint64
    hashes    [N] uint32  the smallest different hashes of each document, ascending; at most 1,024 a document
    counts    [D] int64   how many those are; 0 for a document without words, which is equal to no other
    """

    bands: np.ndarray
    hashes: np.ndarray
    counts: np.ndarray

    def filter(self, chosen: np.ndarray) -> Signatures:
        """Return the signatures of some of the documents, [D] bool."""
        return Signatures(self.bands[chosen], self.hashes[np.repeat(chosen, self.counts)], self.counts[chosen])


def signatures(texts: pa.StringArray, threshold: float) -> Signatures:
    """Return the signatures of documents that are to be compared at a threshold."""
    hashes, counts = shingles(texts)
    rows = rows_of(threshold)
    ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.uint64)
    digests = RMinHash.digest_matrix_from_flat_token_hashes(hashes, ends, BANDS * rows, SEED).to_rows()
    minima = np.array(digests, dtype=np.uint64).reshape(len(texts), BANDS, rows)
    weights = mixed(np.arange(1, BANDS * rows + 1, dtype=np.uint64)).reshape(BANDS, rows) | np.uint64(1)
    document = np.repeat(np.arange(len(texts), dtype=np.uint64), counts)
    smallest = (document << np.uint64(32)) | (hashes >> np.uint64(32))
    smallest.sort()
    smallest = smallest[np.diff(smallest, prepend=~smallest[:1]) != 0]
    owner = (smallest >> np.uint64(32)).astype(np.int64)
    kept = _rank(owner) < SKETCH
    return Signatures(
        bands=mixed((mixed(minima) * weights).sum(axis=2, dtype=np.uint64)),
        hashes=smallest[kept].astype(np.uint32),
        counts=np.bincount(owner[kept], minlength=len(texts)),
    )


class NearDuplicates:
    """The signatures of all documents seen so far, in a folder that belongs to it."""

    def __init__(self, folder: Path, saved: dict[str, Any], threshold: float) -> None:
        """Take up a state that `save` returned ({} for none); raises CorpusError where its files are damaged."""
        self._threshold = threshold
        self._firsts = HashStore(folder, saved.get("bands", {}), numbered=True)
        self._hashes = GrowingArray(folder / "hashes.u32", saved.get("hashes", 0), np.uint32)
        self._ends = GrowingArray(folder / "ends.u64", saved.get("ends", 0), np.uint64)

    def find_new(self, new: Signatures) -> np.ndarray:
        """Return which documents are near no earlier one, neither from before nor in `new`, [D] bool; remember all."""
        worded = new.counts > 0
        answer = np.ones(len(worded), dtype=bool)
        answer[worded] = ~self._repeated(new if worded.all() else new.filter(worded))
        return answer

    def save(self) -> dict[str, Any]:
        """Write everything to disk; return what a later process needs to take it up."""
        return {"bands": self._firsts.save(), "hashes": self._hashes.save(), "ends": self._ends.save()}

    def forget_previous(self) -> None:
        """Remove the files that only the state before the last `save` needs."""
        self._firsts.forget_previous()

    def _repeated(self, new: Signatures) -> np.ndarray:
        bands, first, which = np.unique(new.bands, return_index=True, return_inverse=True)
        first = first // BANDS
        holders = self._firsts.find(bands).astype(np.int64) - 1
        known = holders >= 0
        holders[~known] = len(self._ends) + first[~known]
        earlier = holders[which.reshape(new.bands.shape)]
        numbers = len(self._ends) + np.arange(len(new.counts))
        later, band = np.nonzero(earlier != numbers[:, None])
        pairs = np.unique(np.stack([later, earlier[later, band]], axis=1), axis=0)
        self._hashes.append(new.hashes)
        self._ends.append((self._ends.last() + np.cumsum(new.counts)).astype(np.uint64))
        self._firsts.add(bands[~known], (holders[~known] + 1).astype(np.uint32))
        answer = np.zeros(len(new.counts), dtype=bool)
        for block in _blocks(pairs):
            copies = block[self._similar(numbers[block[:, 0]], block[:, 1])]
            answer[copies[:, 0]] = True
        return answer

    def _similar(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Return which pairs of documents, by number, share enough of their shingles (Jaccard), [P] bool."""
        ends = self._ends.all()
        owners, values, whole = [], [], np.ones(len(left), dtype=bool)
        for numbers in (left, right):
            stops = ends[numbers].astype(np.int64)
            counts = stops - np.where(numbers > 0, ends[numbers - 1], 0).astype(np.int64)
            whole &= counts < SKETCH
            owners.append(np.repeat(np.arange(len(numbers)), counts))
            values.append(self._hashes.all()[ranges(stops - counts, counts)])
        both = (np.concatenate(owners).astype(np.uint64) << np.uint64(32)) | np.concatenate(values)
        both.sort()
        fresh = np.diff(both, prepend=~both[:1]) != 0
        common = np.append(~fresh[1:], False)[fresh]
        owner = (both[fresh] >> np.uint64(32)).astype(np.int64)
        counted = whole[owner] | (_rank(owner) < SKETCH)
        total = np.bincount(owner[counted], minlength=len(left))
        fractions = np.bincount(owner[counted & common], minlength=len(left)) / total
        deviation = np.sqrt(self._threshold * (1 - self._threshold) / SKETCH)
        return np.asarray(fractions >= self._threshold + DOUBT * deviation * ~whole)


class GrowingArray:
    """Numbers in a file that only grows; opened at a saved length, what came after is cut off."""

    def __init__(self, path: Path, length: int, dtype: type[np.unsignedinteger[Any]]) -> None:
        """Open the file at a length; raises CorpusError where it is shorter."""
        self._path, self._dtype, self._length = path, np.dtype(dtype), length
        path.touch()
        if path.stat().st_size < length * self._dtype.itemsize:
            raise CorpusError(f"{path} is cut short; delete {path.parents[2]} and prepare again")
        os.truncate(path, length * self._dtype.itemsize)

    def __len__(self) -> int:
        """Return how many numbers there are."""
        return self._length

    def append(self, values: np.ndarray) -> None:
        """Add numbers at the end."""
        with self._path.open("ab") as file:
            file.write(values.astype(self._dtype, copy=False).tobytes())
        self._length += len(values)

    def all(self) -> np.ndarray:
        """Map all numbers into memory."""
        return np.memmap(self._path, dtype=self._dtype, mode="r", shape=(self._length,))

    def last(self) -> int:
        """Return the last number, 0 where there is none."""
        return int(self.all()[-1]) if self._length else 0

    def save(self) -> int:
        """Write everything to disk; return the length."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())
        return self._length


def _rank(owner: np.ndarray) -> np.ndarray:
    """Return the place of each element among those of its owner, for owners in ascending order."""
    firsts = np.flatnonzero(np.diff(owner, prepend=-1))
    return np.arange(len(owner)) - np.repeat(firsts, np.diff(firsts, append=len(owner)))


def _blocks(pairs: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs [P, 2] in blocks small enough to be compared in memory."""
    most = PAIRED // (2 * SKETCH)
    for start in range(0, len(pairs), most):
        yield pairs[start : start + most]
