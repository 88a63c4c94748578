"""Turns flat arrays of rows of unequal length (values [T], counts [N]) into others: taking, replacing, comparing rows.

Token ids of a million sentences are one such pair of arrays; nothing here loops over rows in Python.
"""

from __future__ import annotations

import numpy as np

Rows = tuple[np.ndarray, np.ndarray]


def take_rows(rows: Rows, places: np.ndarray) -> Rows:
    """Return the rows at `places` [M], in that order; a row may be taken more than once."""
    values, counts = rows
    taken = counts[places]
    begins = (np.cumsum(counts) - counts)[places]
    steps = np.arange(int(taken.sum())) - np.repeat(np.cumsum(taken) - taken, taken)
    return values[np.repeat(begins, taken) + steps], taken


def replace_rows(rows: Rows, places: np.ndarray, replacement: Rows) -> Rows:
    """Return the rows with those at `places` [M], ascending, replaced by the M rows of `replacement`."""
    values, counts = rows
    replaced = np.zeros(len(counts), dtype=bool)
    replaced[places] = True
    new_counts = counts.copy()
    new_counts[places] = replacement[1]
    from_replacement = np.repeat(replaced, new_counts)
    new_values = np.empty(len(from_replacement), dtype=values.dtype)
    new_values[from_replacement] = replacement[0]
    new_values[~from_replacement] = values[~np.repeat(replaced, counts)]
    return new_values, new_counts


def rows_equal(first: Rows, second: Rows) -> np.ndarray:
    """Return for each of N rows whether it is the same in both, bool [N]."""
    same: np.ndarray = first[1] == second[1]
    values = first[0][np.repeat(same, first[1])]
    others = second[0][np.repeat(same, second[1])]
    row_of = np.repeat(np.flatnonzero(same), first[1][same])
    same[row_of[values != others]] = False
    return same
