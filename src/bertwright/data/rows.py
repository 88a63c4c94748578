"""Holds planned rows: where the one or two segments of each row of a batch stand in the corpus, before any is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Rows:
    """R rows to be read, 25 bytes each. A segment is a run of tokens, placed among all tokens of the split.

    a_starts   [R] int64
    a_lengths  [R] int32
    b_starts   [R] int64  0 where the row is a single segment
    b_lengths  [R] int32  0 where the row is a single segment
    labels     [R] int8   0: B continues A (or there is no B); 1: B comes from another document
    """

    a_starts: np.ndarray
    a_lengths: np.ndarray
    b_starts: np.ndarray
    b_lengths: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def take(self, which: np.ndarray | slice) -> Rows:
        """Return the rows named by an index array or a slice."""
        return Rows(*(column[which] for column in self._columns()))

    @property
    def tokens(self) -> int:
        """Tokens of text in all rows, special tokens not counted."""
        return int(self.a_lengths.sum(dtype=np.int64) + self.b_lengths.sum(dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes this plan holds in memory."""
        return sum(column.nbytes for column in self._columns())

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.a_starts, self.a_lengths, self.b_starts, self.b_lengths, self.labels


def join_rows(parts: list[Rows]) -> Rows:
    """Return several plans as one, in order."""
    return Rows(*(np.concatenate(columns) for columns in zip(*(part._columns() for part in parts), strict=True)))
