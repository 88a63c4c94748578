"""Holds planned rows: where the segments of each row of a batch stand in the corpus, before any of them is read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PlannedRows:
    """R rows of N segments in all, 12 bytes a segment and 9 a row. A row has one segment or more.

    A segment is a run of tokens of one document, placed among all tokens of the split.

    starts   [N] int64      first token of each segment
    lengths  [N] int32      its tokens
    firsts   [R + 1] int64  first segment of each row; the last entry is N
    labels   [R] int8       of a pair: 0: B continues A, 1: B comes from another document; else 0
    """

    starts: np.ndarray
    lengths: np.ndarray
    firsts: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.labels)

    def take(self, which: np.ndarray | slice) -> PlannedRows:
        """Return the rows named by an index array or a slice."""
        rows = np.arange(*which.indices(len(self))) if isinstance(which, slice) else which
        counts = self.firsts[rows + 1] - self.firsts[rows]
        firsts = np.append(0, np.cumsum(counts))
        segments = np.arange(firsts[-1]) + np.repeat(self.firsts[rows] - firsts[:-1], counts)
        return PlannedRows(self.starts[segments], self.lengths[segments], firsts, self.labels[rows])


def equal_rows(
    starts: np.ndarray, lengths: np.ndarray, *, each: int = 1, labels: np.ndarray | None = None
) -> PlannedRows:
    """Return rows of `each` consecutive segments, starts and lengths [N]; labels [N / each] are 0 where not given."""
    count = len(starts) // each
    return PlannedRows(
        starts=starts,
        lengths=lengths.astype(np.int32),
        firsts=np.arange(count + 1) * each,
        labels=np.zeros(count, dtype=np.int8) if labels is None else labels.astype(np.int8),
    )


def join_rows(parts: list[PlannedRows]) -> PlannedRows:
    """Return several plans as one, in order."""
    bases = np.cumsum([0] + [len(part.starts) for part in parts])
    firsts = [part.firsts[:-1] + base for part, base in zip(parts, bases, strict=False)]
    return PlannedRows(
        starts=np.concatenate([part.starts for part in parts]),
        lengths=np.concatenate([part.lengths for part in parts]),
        firsts=np.concatenate([*firsts, bases[-1:]]),
        labels=np.concatenate([part.labels for part in parts]),
    )
