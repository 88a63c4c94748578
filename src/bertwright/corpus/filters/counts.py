"""Keeps count of what was left out of a corpus, by reason, with an example of each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN = 200
"""Characters of an example."""


@dataclass
class DropCounts:
    """How many documents or lines were left out for each reason, and how the first of them begins."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: str, count: int, example: str) -> None:
        """Tell of some more; only the first example of a reason is kept."""
        self.counts[reason] += count
        self.examples.setdefault(reason, example[:SHOWN])

    def update(self, other: DropCounts) -> None:
        """Add what another tells, which comes later."""
        self.counts += other.counts
        self.examples = {**other.examples, **self.examples}
