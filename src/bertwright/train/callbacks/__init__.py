"""Watches a training run: each callback is called with every step report and does one thing with it.

They run in the order they are listed. A callback may leave figures in `report.notes` for those after it: evaluation
leaves "valid" and "samples", and the metrics file writes them down.
"""

from __future__ import annotations

from typing import Protocol

from bertwright.train.loop import StepReport


class Callback(Protocol):
    """Anything that can be told of a step."""

    def __call__(self, report: StepReport) -> None:
        """Hear of one finished step."""
        ...
