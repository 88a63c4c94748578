"""Turns a report now and then into held-out figures and sample predictions, left in its notes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bertwright.train.interval import Interval
from bertwright.train.loop import Progress, StepReport


@dataclass
class EvaluateListener:
    """Evaluates about `times` times, evenly over the run's progress, and at its end; never where `times` is 0.

    Where `every` is given, it evaluates after each such interval of training instead, and at the end.

    `held_out()` returns figures such as {"mlm_loss": 6.1}; `samples()` returns predictions for fixed masked sentences.
    """

    held_out: Callable[[], dict[str, float]]
    samples: Callable[[], list[dict[str, Any]]]
    times: int
    every: Interval | None = None
    done: int = field(default=0)
    """Marks passed."""

    def rewind(self, position: Progress, progress: float, *, behind: int = 0) -> None:
        """Take the marks up to a position, `progress` of the run, as passed, all but the last `behind` of them."""
        self.done = self._marks(position, progress) - behind

    def _marks(self, position: Progress, progress: float) -> int:
        if self.every is None:
            return int(progress * self.times + 1e-9)
        return self.every.passed(steps=position.step, seconds=max(0.0, position.seconds - position.setup_seconds))

    def __call__(self, report: StepReport) -> None:
        """Evaluate if the run has passed the next mark."""
        marks = self._marks(report.position, report.progress)
        if self.times and (marks > self.done or report.last):
            self.done = marks
            report.notes["valid"] = self.held_out()
            report.notes["samples"] = self.samples()
