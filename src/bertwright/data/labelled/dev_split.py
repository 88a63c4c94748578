"""Turns the rows of a training file into those held out to choose a checkpoint by: by hash, whatever their order.

Rows of a group (equal texts, questions about one context) stay on one side, and each class gives its share of rows to
within one. So the same rows always give the same split, in whatever order. A row that is added may move a few others,
as the share of its class grows; most stay where they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xxhash


@dataclass(frozen=True)
class Groups:
    """G groups of rows in the order of their hashes, and how many rows of each of K classes each holds.

    of_row  [N] int64  the group of each row
    sizes   [G] int64  rows of each group
    counts  G pairs of arrays: classes in the group, and rows of each of them
    """

    of_row: np.ndarray
    sizes: np.ndarray
    counts: list[tuple[np.ndarray, np.ndarray]]


def dev_rows(keys: Sequence[str], classes: np.ndarray | None, *, fraction: float) -> np.ndarray:
    """Return which of N rows are held out, bool [N]: about `fraction` of them, at least one.

    Rows of equal `keys` [N] stay together. `classes` are int64 [N], one of each row, or [N, K], not 0 where a row has a
    label; None where rows are all of a kind. A class keeps a row to be trained on. Raises ValueError where that leaves
    no rows to hold out.
    """
    marks = _marks(classes, len(keys))
    groups = _groups(keys, marks)
    quotas = _quotas(marks, fraction, exact=classes is None or classes.ndim == 1)
    chosen = _choose(groups, quotas)
    if not chosen.any():
        chosen[_smallest(groups, np.bincount(marks[:, 1]))] = True
    held: np.ndarray = chosen[groups.of_row]
    return held


def fold_numbers(keys: Sequence[str], classes: np.ndarray | None, *, folds: int) -> np.ndarray:
    """Return the fold of each of N rows, int64 [N] from 0 to `folds` - 1: each holds an equal share of each class.

    Keys and classes are those of `dev_rows`, which takes each fold from the rows that are left. Raises ValueError where
    there are too few rows for so many folds.
    """
    numbers, left = np.full(len(keys), folds - 1, dtype=np.int64), np.arange(len(keys))
    for fold in range(folds - 1):
        of_left = None if classes is None else classes[left]
        held = dev_rows([keys[row] for row in left.tolist()], of_left, fraction=1 / (folds - fold))
        numbers[left[held]] = fold
        left = left[~held]
    if not len(left):
        raise ValueError("no row is left for the last fold")
    return numbers


def key_hash(key: str) -> int:
    """Return 64 bits that stand for a key; blanks count as one, however many there are."""
    return xxhash.xxh3_64_intdigest(" ".join(key.split()).encode("utf-8", "surrogatepass"))


def key_hashes(keys: Sequence[str]) -> np.ndarray:
    """Return the hashes of keys, uint64 [N]."""
    return np.fromiter(map(key_hash, keys), dtype=np.uint64, count=len(keys))


def _marks(classes: np.ndarray | None, rows: int) -> np.ndarray:
    """Return the class of each row as (row, class) pairs [M, 2]; rows without a label are a class of their own."""
    every = np.arange(rows)
    if classes is None:
        return np.stack([every, np.zeros(rows, dtype=np.int64)], axis=1)
    if classes.ndim == 1:
        return np.stack([every, np.unique(classes, return_inverse=True)[1]], axis=1)
    bare = np.flatnonzero(~(classes != 0).any(axis=1))
    without = np.stack([bare, np.full(len(bare), classes.shape[1])], axis=1)
    return np.concatenate([np.argwhere(classes != 0), without])


def _groups(keys: Sequence[str], marks: np.ndarray) -> Groups:
    _, of_row = np.unique(key_hashes(keys), return_inverse=True)
    sizes = np.bincount(of_row)
    pairs, counts = np.unique(np.stack([of_row[marks[:, 0]], marks[:, 1]], axis=1), axis=0, return_counts=True)
    cuts = np.searchsorted(pairs[:, 0], np.arange(1, len(sizes)))
    held = zip(np.split(pairs[:, 1], cuts), np.split(counts, cuts), strict=True)
    return Groups(of_row, sizes, list(held))


def _quotas(marks: np.ndarray, fraction: float, *, exact: bool) -> np.ndarray:
    """Return how many rows of each class are held out, int64 [K]: its share to within one row, and never all.

    If `exact` (a row has one class), together they are `fraction` of all rows, by largest remainders.
    """
    totals = np.bincount(marks[:, 1])
    wanted = fraction * totals
    quotas = np.floor(wanted if exact else wanted + 0.5).astype(np.int64)
    if exact:
        left = max(1, round(float(wanted.sum()))) - int(quotas.sum())
        first = np.argsort(-(wanted - quotas) - 1e-9 * totals, kind="stable")
        room = [place for place in first.tolist() if quotas[place] + 1 < totals[place]]
        quotas[room[:left]] += 1
    kept: np.ndarray = np.minimum(quotas, np.maximum(totals - 1, 0))
    return kept


def _smallest(groups: Groups, totals: np.ndarray) -> int:
    """Return the smallest group that leaves a row of each class of `totals` [K] rows; raises ValueError without one."""
    for group in np.argsort(groups.sizes, kind="stable").tolist():
        classes, counts = groups.counts[group]
        if (counts < totals[classes]).all():
            return int(group)
    raise ValueError("every group holds all rows of a class")


def _choose(groups: Groups, quotas: np.ndarray) -> np.ndarray:
    """Return the groups held out, bool [G]: for each class, rarest first, those of the lowest hashes that fit."""
    chosen, held = np.zeros(len(groups.sizes), dtype=bool), np.zeros_like(quotas)
    of_class: list[list[int]] = [[] for _ in quotas]
    for group, (classes, _) in enumerate(groups.counts):
        for one in classes.tolist():
            of_class[one].append(group)
    for one in np.argsort(quotas, kind="stable").tolist():
        for group in of_class[one]:
            if held[one] >= quotas[one]:
                break
            classes, counts = groups.counts[group]
            if not chosen[group] and bool((held[classes] + counts <= quotas[classes]).all()):
                chosen[group] = True
                held[classes] += counts
    return chosen
