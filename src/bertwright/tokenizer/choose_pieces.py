"""Turns the distinct words of a text, each as tokens, into the pieces that would save most tokens if they were added.

A piece is what stands in a run of tokens of a word. Pieces are chosen one after another, each time the one that saves
most given those before: where "tokenization" is a token, "token ##ization" inside it saves nothing any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bertwright.tokenizer.ragged import Ragged

LONGEST_RUN = 10
"""Tokens that one piece may stand for, at most."""
LEAST_SAVED = 5
"""Tokens of the text that a piece must save."""


@dataclass(frozen=True)
class Runs:
    """All runs of a fixed number of tokens that occur inside words: which are the same, and what each would save.

    places  [R] int64  where runs begin among the tokens, same ones together
    starts  [K + 1]    where the places of run k begin
    saved   [K] int64  tokens saved by run k, if it were added alone
    """

    length: int
    places: np.ndarray
    starts: np.ndarray
    saved: np.ndarray


class PieceChooser:
    """Chooses pieces greedily. A word's tokens change as pieces are chosen: `_begins` says where one begins now."""

    def __init__(self, words: Ragged, counts: np.ndarray, costs: np.ndarray) -> None:
        """Take the tokens of W distinct words, how often each word occurs [W], and what each token counts [T].

        A token counts one, or more where it stands for what the vocabulary has not.
        """
        self._ids, self._weights = words.values.astype(np.int64), np.repeat(counts, words.lengths)
        self._left = np.repeat(np.cumsum(words.lengths), words.lengths) - np.arange(len(self._ids))
        self._begins = np.ones(len(self._ids) + 1, dtype=bool)
        self._costs = costs.astype(np.int64)
        self._runs = list(self._all_runs())

    def choose(self) -> Iterator[tuple[int, int]]:
        """Yield (place, length) of pieces, best first: which tokens a piece joins, at one of the places it stands.

        What a piece saves only falls as others are chosen, so one is looked at again only when it comes first (Minoux,
        1978, "Accelerated greedy algorithms").
        """
        waiting = sorted((-saved, run, k) for run, runs in enumerate(self._runs) for k, saved in _worth(runs))
        while waiting:
            bound, run, k = waiting[0]
            places = self._unbroken(run, k)
            saved = self._saved(places, self._runs[run].length)
            if -saved == bound:
                heapq.heappop(waiting)
                self._join(places, self._runs[run].length)
                yield int(self._places(run, k)[0]), self._runs[run].length
            elif saved >= LEAST_SAVED:
                heapq.heapreplace(waiting, (-saved, run, k))
            else:
                heapq.heappop(waiting)

    def _all_runs(self) -> Iterator[Runs]:
        """Yield the runs of every length: of one token those alone that count more than one."""
        single = np.flatnonzero(self._costs > 1)
        if len(single):
            yield self._grouped(1, single, self._ids[single])
        places, keys = np.arange(len(self._ids)), np.unique(self._ids, return_inverse=True)[1].astype(np.int64)
        numbers = keys
        for length in range(2, LONGEST_RUN + 1):
            longer = self._left[places] >= length
            places = places[longer]
            if not len(places):
                return
            joined = keys[longer] * (int(numbers.max()) + 1) + numbers[places + length - 1]
            keys = np.unique(joined, return_inverse=True)[1].astype(np.int64)
            yield self._grouped(length, places, keys)

    def _grouped(self, length: int, places: np.ndarray, keys: np.ndarray) -> Runs:
        order = np.argsort(keys, kind="stable")
        places, keys = places[order], keys[order]
        starts = np.flatnonzero(np.diff(keys, prepend=-1, append=-1))
        saved = self._weights[places] * (self._cost(places, length) - 1)
        totals = np.add.reduceat(saved, starts[:-1]) if len(places) else saved
        return Runs(length, places, starts, totals)

    def _cost(self, places: np.ndarray, length: int) -> np.ndarray:
        cost: np.ndarray = self._costs[places]
        for step in range(1, length):
            cost = cost + self._costs[places + step]
        return cost

    def _places(self, run: int, k: int) -> np.ndarray:
        runs = self._runs[run]
        places: np.ndarray = runs.places[runs.starts[k] : runs.starts[k + 1]]
        return places

    def _unbroken(self, run: int, k: int) -> np.ndarray:
        """Return where a run still begins and ends with a token, none overlapping the one before."""
        places, length = self._places(run, k), self._runs[run].length
        places = places[self._begins[places] & self._begins[places + length]]
        if len(places) > 1 and length > 1 and int(np.diff(places).min()) < length:
            kept, last = [], -length
            for place in places.tolist():
                if place >= last + length:
                    kept.append(last := place)
            places = np.array(kept)
        return places

    def _saved(self, places: np.ndarray, length: int) -> int:
        return int((self._weights[places] * (self._cost(places, length) - 1)).sum())

    def _join(self, places: np.ndarray, length: int) -> None:
        self._costs[places] = 1
        for step in range(1, length):
            self._costs[places + step] = 0
            self._begins[places + step] = False


def _worth(runs: Runs) -> Iterator[tuple[int, int]]:
    for k in np.flatnonzero(runs.saved >= LEAST_SAVED).tolist():
        yield k, int(runs.saved[k])
