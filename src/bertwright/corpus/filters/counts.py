"""Counts what is left out of a corpus, by reason, with an example of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

SHOWN = 200
"""Characters of an example."""


@dataclass(frozen=True)
class DropCounts:
    """How many documents or lines were left out for each reason, and how the first of them begins."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, reason: str, count: int, example: str) -> DropCounts:
        """Return the counts of one reason."""
        return cls(Counter({reason: count}), {reason: example[:SHOWN]})

    def __add__(self, later: DropCounts) -> DropCounts:
        """Return what was left out here and, after that, there: the first example of a reason is kept."""
        return DropCounts(self.counts + later.counts, {**later.examples, **self.examples})


def keep_passed(
    kept: np.ndarray, passed: np.ndarray, reason: str, texts: pa.StringArray
) -> tuple[np.ndarray, DropCounts]:
    """Return which of the documents kept so far pass, [D] bool, and count the others under a reason.

    `kept` and `passed` are [D] bool, `texts` [D].
    """
    failed = np.flatnonzero(kept & ~passed)
    if not len(failed):
        return kept, DropCounts()
    return kept & passed, DropCounts.of(reason, len(failed), texts[int(failed[0])].as_py())
