"""Rows of unequal length are taken, replaced and compared as lists of lists would be."""

import numpy as np

from bertwright.tokenizer.ragged import Rows, replace_rows, rows_equal, take_rows


def _flat(rows: list[list[int]]) -> Rows:
    return np.array([v for row in rows for v in row], dtype=np.uint32), np.array([len(row) for row in rows])


def _lists(rows: Rows) -> list[list[int]]:
    return [part.tolist() for part in np.split(rows[0], np.cumsum(rows[1])[:-1])]


ROWS = [[1, 2], [], [3], [4, 5, 6]]


def test_take() -> None:
    assert _lists(take_rows(_flat(ROWS), np.array([3, 1, 0, 3]))) == [[4, 5, 6], [], [1, 2], [4, 5, 6]]
    assert take_rows(_flat(ROWS), np.array([], dtype=np.int64))[0].shape == (0,)


def test_replace() -> None:
    assert _lists(replace_rows(_flat(ROWS), np.array([1, 3]), _flat([[7, 8, 9], []]))) == [[1, 2], [7, 8, 9], [3], []]


def test_equal() -> None:
    assert rows_equal(_flat(ROWS), _flat([[1, 2], [9], [4], [4, 5, 6]])).tolist() == [True, False, False, True]
