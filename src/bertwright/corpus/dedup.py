"""Tells which documents were seen before and which are held out, by a hash of their text, in bounded memory.

The hashes seen are kept on disk as sorted runs that are merged by powers of two (a log-structured merge tree:
O'Neil et al. 1996), 8 bytes a document; in memory there is at most one unsorted handful. What is on disk at a
`commit` is what a later process finds, whatever was added after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import xxhash

from bertwright.errors import CorpusError
from bertwright.files import read_json, remove, write_json, written_aside

MOST_PENDING = 1 << 18
"""Hashes held in memory before they become a run: 2 MB, so that sorting new ones in stays under a millisecond."""
MERGE_BLOCK = 1 << 20
"""Hashes merged at a time: 8 MB from each of two runs."""


def hash_documents(texts: pa.StringArray) -> np.ndarray:
    """Return the 64-bit xxh3 hash of each document's UTF-8 bytes, [D] uint64; equal hashes count as equal texts.

    Among a billion different documents the chance of any two meeting in one hash is 3% (n^2 / 2^65).
    """
    buffers = texts.buffers()
    ends = np.frombuffer(buffers[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(buffers[2] or b"")
    hashes = (xxhash.xxh3_64_intdigest(data[start:end]) for start, end in pairwise(ends))
    return np.fromiter(hashes, dtype=np.uint64, count=len(texts))


def held_out(hashes: np.ndarray, share: float) -> np.ndarray:
    """Return which documents belong to the held-out split, [D] bool: a `share` of all, whatever their order."""
    return (hashes >> np.uint64(11)).astype(np.float64) < share * 2.0**53


class SeenDocuments:
    """The hashes of all documents seen so far, in a folder that belongs to it.

    `state.json` names the sorted runs of the last commit; other files there are leftovers, and removed on opening.
    """

    def __init__(self, folder: Path) -> None:
        """Take up the folder at its last commit (an absent one is empty); raises CorpusError where it is damaged."""
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._pending = np.zeros(0, dtype=np.uint64)
        self._runs: list[Path] = []
        self._committed: list[Path] = []
        self._next = 0
        self.restore()

    def __len__(self) -> int:
        """Return how many different documents were seen."""
        return len(self._pending) + sum(_length(run) for run in self._runs)

    def first_seen(self, hashes: np.ndarray) -> np.ndarray:
        """Return which documents were not seen before, neither earlier nor earlier in `hashes`, and remember them.

        `hashes` is [D] uint64; the answer is [D] bool.
        """
        distinct, first = np.unique(hashes, return_index=True)
        new = ~_found_in(self._pending, distinct)
        for run in self._runs:
            new[new] = ~_found_in(_open_run(run), distinct[new])
        self._pending = _merged(self._pending, distinct[new])
        if len(self._pending) > MOST_PENDING:
            self._spill()
        answer = np.zeros(len(hashes), dtype=bool)
        answer[first[new]] = True
        return answer

    def commit(self) -> None:
        """Make what was seen so far survive whatever happens to this process."""
        self._spill()
        write_json(self.folder / "state.json", {"runs": [run.name for run in self._runs], "next": self._next})
        self._committed = list(self._runs)
        self._remove_leftovers()

    def restore(self) -> None:
        """Go back to the last commit."""
        state = self.folder / "state.json"
        try:
            saved: dict[str, Any] = read_json(state) if state.exists() else {"runs": [], "next": 0}
            self._committed = [self.folder / name for name in saved["runs"]]
            self._next = int(saved["next"])
            for run in self._committed:
                _length(run)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{self.folder} is damaged ({error}); delete it and prepare the data again") from error
        self._runs = list(self._committed)
        self._pending = self._pending[:0]
        self._remove_leftovers()

    def _spill(self) -> None:
        """Write the pending hashes as a run, and merge runs until each is at least twice as long as the next."""
        if len(self._pending):
            run = self._new_run()
            _write_run(run, [self._pending])
            self._runs.append(run)
            self._pending = self._pending[:0]
        while len(self._runs) > 1 and _length(self._runs[-2]) < 2 * _length(self._runs[-1]):
            run = self._new_run()
            _write_run(run, _merge(_open_run(self._runs[-2]), _open_run(self._runs[-1])))
            self._runs[-2:] = [run]
            self._remove_leftovers()

    def _new_run(self) -> Path:
        self._next += 1
        return self.folder / f"run-{self._next:06d}.u64"

    def _remove_leftovers(self) -> None:
        for file in self.folder.glob("*run-*"):
            if file not in self._runs and file not in self._committed:
                remove(file)


def _open_run(path: Path) -> np.ndarray:
    """Map a sorted run into memory anew: pages touched for an earlier search are given back with the old mapping."""
    return np.memmap(path, dtype=np.uint64, mode="r")


def _length(path: Path) -> int:
    return path.stat().st_size // 8


def _write_run(path: Path, blocks: Iterable[np.ndarray]) -> None:
    with written_aside(path) as aside, aside.open("wb") as file:
        for block in blocks:
            file.write(block.tobytes())


def _found_in(run: np.ndarray, hashes: np.ndarray) -> np.ndarray:
    """Return which of the sorted `hashes` stand in the sorted `run`."""
    if not len(run):
        return np.zeros(len(hashes), dtype=bool)
    places = np.searchsorted(run, hashes)
    return np.asarray(run[np.minimum(places, len(run) - 1)] == hashes)


def _merged(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    both = np.concatenate([left, right])
    both.sort(kind="stable")
    return both


def _merge(left: np.ndarray, right: np.ndarray) -> Iterator[np.ndarray]:
    """Yield two sorted runs as one, in blocks of at most 2 x MERGE_BLOCK."""
    i = j = 0
    while i < len(left) and j < len(right):
        a, b = left[i : i + MERGE_BLOCK], right[j : j + MERGE_BLOCK]
        limit = min(a[-1], b[-1])
        a, b = (part[: np.searchsorted(part, limit, side="right")] for part in (a, b))
        yield _merged(a, b)
        i, j = i + len(a), j + len(b)
    for run, start in ((left, i), (right, j)):
        for first in range(start, len(run), MERGE_BLOCK):
            yield run[first : first + MERGE_BLOCK]
