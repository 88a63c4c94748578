"""Turns evaluations into measurements of the machine's peak rate, of which the highest counts: MFU is relative to it.

The rate that is measured before the first step is too low where the machine had other work then, such as the compiler,
and MFU would come out above 100%.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bertwright.train.callbacks.base import Callback, StepReport


@dataclass
class PeakCallback(Callback):
    """Holds the highest peak rate measured so far; stands after evaluation, and before who writes figures.

    `measure()` returns the rate in floating-point operations a second; where a run has several processes, of them all.
    """

    measure: Callable[[], float]
    flops: float
    """The highest rate so far."""

    def on_step(self, report: StepReport) -> None:
        """Measure again after an evaluation."""
        if report.notes.get("valid"):
            self.flops = max(self.flops, self.measure())
