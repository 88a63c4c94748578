"""Turns hashes into what is known of each of them, on disk: the memory behind everything that looks for repetitions.

Hashes are kept as sorted runs that are merged by powers of two (a log-structured merge tree: O'Neil et al. 1996),
8 bytes a hash, and 4 for its number where it has one; in memory there is at most one unsorted handful. Runs are whole
files that never change, so the names of the runs are a state that can be gone back to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertwright.errors import CorpusError
from bertwright.files import remove, written_aside

MOST_PENDING = 1 << 18
"""Hashes held in memory before they become a run: 2 MB, so that sorting new ones in stays under a millisecond."""
MERGE_BLOCK = 1 << 20
"""Hashes merged at a time: 8 MB from each of two runs."""


@dataclass(frozen=True)
class SortedRun:
    """Sorted hashes, none twice, [N] uint64, and a number for each, [N] uint32, where they have numbers."""

    hashes: np.ndarray
    numbers: np.ndarray | None

    def __getitem__(self, places: slice) -> SortedRun:
        """Return some hashes in a row, with their numbers."""
        return SortedRun(self.hashes[places], None if self.numbers is None else self.numbers[places])

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the numbers of sorted `hashes`, [N] uint32: 0 for those not here; 1 for those that have none."""
        if not len(self.hashes):
            return np.zeros(len(hashes), dtype=np.uint32)
        places = np.minimum(np.searchsorted(self.hashes, hashes), len(self.hashes) - 1)
        here = np.asarray(self.hashes[places] == hashes)
        return here.astype(np.uint32) if self.numbers is None else np.where(here, self.numbers[places], 0)


class HashStore:
    """A set of 64-bit hashes, or of hashes with numbers, in a folder that belongs to it.

    `save` returns the names of the runs and their lengths, to be kept elsewhere: opened with them again, it is what
    it was then. `forget_previous` says that they are kept; only then are the runs of the state before removed.
    """

    def __init__(self, folder: Path, saved: dict[str, int], *, numbered: bool) -> None:
        """Take up a saved state ({} for none); raises CorpusError where its files are missing or not whole."""
        self.folder = folder
        self._numbered = numbered
        folder.mkdir(parents=True, exist_ok=True)
        self._lengths = dict(saved)
        for name, length in saved.items():
            for path, width in zip(self._paths(name), (8, 4), strict=False):
                if not path.is_file() or path.stat().st_size != length * width:
                    raise CorpusError(f"{path} is missing or cut short; delete {folder.parents[1]} and prepare again")
        self._next = max((int(name.removeprefix("run-")) for name in saved), default=0)
        self._pending = _nothing(numbered)
        self.forget_previous()

    def __len__(self) -> int:
        """Return how many different hashes are known; where numbers were added up, those still apart count twice."""
        return len(self._pending.hashes) + sum(self._lengths.values())

    def find(self, hashes: np.ndarray) -> np.ndarray:
        """Return the numbers of sorted `hashes`, [N] uint32, 0 for those unknown; without numbers 1 for those known.

        A hash that was added several times has the sum of its numbers.
        """
        found = self._pending.find(hashes)
        for name in self._lengths:
            found += self._open(name).find(hashes)
        return found

    def add(self, hashes: np.ndarray, numbers: np.ndarray | None = None) -> None:
        """Remember sorted hashes, none twice in them; without numbers, none known before."""
        self._pending = _merged(self._pending, SortedRun(hashes, numbers))
        if len(self._pending.hashes) > MOST_PENDING:
            self._spill()

    def add_new(self, hashes: np.ndarray) -> np.ndarray:
        """Return which hashes were not known, neither before nor earlier in `hashes`, [D] bool, and remember them.

        `hashes` is [D] uint64 in any order, of a store without numbers.
        """
        distinct, first = np.unique(hashes, return_index=True)
        new = self.find(distinct) == 0
        self.add(distinct[new])
        answer = np.zeros(len(hashes), dtype=bool)
        answer[first[new]] = True
        return answer

    def save(self) -> dict[str, int]:
        """Write everything to disk; return the names and lengths of the runs."""
        self._spill()
        return dict(self._lengths)

    def forget_previous(self) -> None:
        """Remove the runs that the present state does without."""
        self._kept = set(self._lengths)
        self._remove_leftovers()

    def _spill(self) -> None:
        """Write what is pending as a run, and merge runs until each is at least twice as long as the next."""
        if len(self._pending.hashes):
            self._write([self._pending])
            self._pending = _nothing(self._numbered)
        while len(self._lengths) > 1:
            (longer, long), (shorter, short) = list(self._lengths.items())[-2:]
            if long >= 2 * short:
                break
            self._write(_merge(self._open(longer), self._open(shorter)))
            del self._lengths[longer], self._lengths[shorter]
            self._remove_leftovers()

    def _write(self, runs: Iterable[SortedRun]) -> None:
        self._next += 1
        name = f"run-{self._next:06d}"
        length = 0
        with ExitStack() as stack:
            paths = [stack.enter_context(written_aside(path)) for path in self._paths(name)]
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for run in runs:
                length += len(run.hashes)
                for file, values in zip(files, (run.hashes, run.numbers), strict=False):
                    assert values is not None
                    file.write(values.tobytes())
        self._lengths[name] = length

    def _open(self, name: str) -> SortedRun:
        """Map a run into memory again: pages touched for an earlier search are given back with the old mapping."""
        paths = self._paths(name)
        numbers = np.memmap(paths[1], dtype=np.uint32, mode="r") if self._numbered else None
        return SortedRun(np.memmap(paths[0], dtype=np.uint64, mode="r"), numbers)

    def _paths(self, name: str) -> list[Path]:
        return [self.folder / f"{name}.{kind}" for kind in (("u64", "u32") if self._numbered else ("u64",))]

    def _remove_leftovers(self) -> None:
        needed = {path for name in self._kept | set(self._lengths) for path in self._paths(name)}
        for file in self.folder.glob("*run-*"):
            if file not in needed:
                remove(file)


def _nothing(numbered: bool) -> SortedRun:
    return SortedRun(np.zeros(0, np.uint64), np.zeros(0, np.uint32) if numbered else None)


def _merged(left: SortedRun, right: SortedRun) -> SortedRun:
    """Return two runs as one; the numbers of a hash in both are added up."""
    both = np.concatenate([left.hashes, right.hashes])
    if left.numbers is None or right.numbers is None:
        both.sort(kind="stable")
        return SortedRun(both, None)
    order = np.argsort(both, kind="stable")
    both, numbers = both[order], np.concatenate([left.numbers, right.numbers])[order]
    first = np.flatnonzero(np.diff(both, prepend=~both[:1]))
    return SortedRun(both[first], np.add.reduceat(numbers, first, dtype=np.uint32) if len(first) else numbers)


def _merge(left: SortedRun, right: SortedRun) -> Iterator[SortedRun]:
    """Yield two sorted runs as one, in blocks of at most 2 x MERGE_BLOCK."""
    i = j = 0
    while i < len(left.hashes) and j < len(right.hashes):
        a, b = left[i : i + MERGE_BLOCK], right[j : j + MERGE_BLOCK]
        limit = min(a.hashes[-1], b.hashes[-1])
        a, b = (run[: int(np.searchsorted(run.hashes, limit, side="right"))] for run in (a, b))
        yield _merged(a, b)
        i, j = i + len(a.hashes), j + len(b.hashes)
    for run, start in ((left, i), (right, j)):
        for first in range(start, len(run.hashes), MERGE_BLOCK):
            yield run[first : first + MERGE_BLOCK]
