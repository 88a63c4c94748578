"""Turns rows of unequal length, held flat, into others: taking, replacing and comparing rows without a loop in Python.

Token ids of a million sentences are one such pair of arrays.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1 ... of `lengths[0]` numbers, then those of the next, int64 [sum of lengths].

    >>> ranges(np.array([7, 2]), np.array([2, 3]))
    array([7, 8, 2, 3, 4])
    """
    firsts = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    places: np.ndarray = firsts + np.arange(len(firsts))
    return places


class Ragged(NamedTuple):
    """N rows of unequal length: their values one after another, [T], and the length of each, [N] int64.

    >>> Ragged(np.array([5, 6, 7]), np.array([2, 1])).take(np.array([1, 0])).values
    array([7, 5, 6])
    """

    values: np.ndarray
    lengths: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where each row begins among the values, [N] int64."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    @property
    def begins(self) -> np.ndarray:
        """True at the first value of each row, bool [T]; rows without values begin nowhere."""
        begins = np.zeros(len(self.values), dtype=bool)
        begins[self.starts[self.lengths > 0]] = True
        return begins

    def take(self, places: np.ndarray) -> Ragged:
        """Return the rows at `places` [M], in that order; a row may be taken more than once."""
        lengths = self.lengths[places]
        return Ragged(self.values[ranges(self.starts[places], lengths)], lengths)

    def replace(self, places: np.ndarray, rows: Ragged) -> Ragged:
        """Return the rows with those at `places` [M], ascending, replaced by the M `rows`."""
        replaced = np.zeros(len(self.lengths), dtype=bool)
        replaced[places] = True
        lengths = self.lengths.copy()
        lengths[places] = rows.lengths
        from_rows = np.repeat(replaced, lengths)
        values = np.empty(len(from_rows), dtype=self.values.dtype)
        values[from_rows] = rows.values
        values[~from_rows] = self.values[~np.repeat(replaced, self.lengths)]
        return Ragged(values, lengths)

    def equals(self, other: Ragged) -> np.ndarray:
        """Return for each of N rows whether it is the same in both, bool [N]."""
        same: np.ndarray = self.lengths == other.lengths
        values = self.values[np.repeat(same, self.lengths)]
        others = other.values[np.repeat(same, other.lengths)]
        row_of = np.repeat(np.flatnonzero(same), self.lengths[same])
        same[row_of[values != others]] = False
        return same
