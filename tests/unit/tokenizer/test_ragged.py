"""Rows of unequal length are taken, replaced and compared as lists of lists would be."""

import numpy as np

from bertwright.tokenizer.ragged import Ragged, ranges


def _flat(rows: list[list[int]]) -> Ragged:
    values = np.array([value for row in rows for value in row], dtype=np.uint32)
    return Ragged(values, np.array([len(row) for row in rows]))


def _lists(rows: Ragged) -> list[list[int]]:
    return [part.tolist() for part in np.split(rows.values, np.cumsum(rows.lengths)[:-1])]


ROWS = [[1, 2], [], [3], [4, 5, 6]]


def test_take() -> None:
    assert _lists(_flat(ROWS).take(np.array([3, 1, 0, 3]))) == [[4, 5, 6], [], [1, 2], [4, 5, 6]]
    assert _flat(ROWS).take(np.array([], dtype=np.int64)).values.shape == (0,)


def test_replace() -> None:
    assert _lists(_flat(ROWS).replace(np.array([1, 3]), _flat([[7, 8, 9], []]))) == [[1, 2], [7, 8, 9], [3], []]


def test_equal() -> None:
    assert _flat(ROWS).equals(_flat([[1, 2], [9], [4], [4, 5, 6]])).tolist() == [True, False, False, True]


def test_ranges() -> None:
    assert ranges(np.array([4, 0, 9]), np.array([2, 0, 3])).tolist() == [4, 5, 9, 10, 11]
