"""Turns a report now and then into held-out figures and sample predictions, left in its notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bertwright.train.loop import StepReport


@dataclass
class EvaluateListener:
    """Evaluates about `times` times, evenly over the run's progress, and at its end; never where `times` is 0.

    `held_out()` returns figures such as {"mlm_loss": 6.1}; `samples()` returns predictions for fixed masked sentences.
    """

    held_out: Callable[[], dict[str, float]]
    samples: Callable[[], list[dict[str, Any]]]
    times: int
    done: int = field(default=0)
    """Marks passed."""

    def rewind(self, progress: float, *, behind: int = 0) -> None:
        """Take the marks up to `progress` as passed, all but the last `behind` of them."""
        self.done = int(progress * self.times + 1e-9) - behind

    def __call__(self, report: StepReport) -> None:
        """Evaluate if the run has passed the next mark."""
        marks = int(report.progress * self.times + 1e-9)
        if self.times and (marks > self.done or report.last):
            self.done = marks
            report.notes["valid"] = self.held_out()
            report.notes["samples"] = self.samples()
