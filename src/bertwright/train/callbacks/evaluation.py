"""Turns a report now and then into held-out figures and sample predictions, left in its notes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.interval import Interval
from bertwright.train.state import Progress, TrainState


@dataclass
class EvaluateCallback(Callback):
    """Evaluates about `times` times, evenly over the run's progress, and at its end; never where `times` is 0.

    Where `every` is given, it evaluates after each such interval of training instead, and at the end.

    `held_out()` returns figures such as {"mlm_loss": 6.1}; `samples()` returns predictions for fixed masked sentences;
    `probed()`, where given, the accuracies of probes by their names. `own` stands beside those before the first step.
    """

    held_out: Callable[[], dict[str, float]]
    samples: Callable[[], list[dict[str, Any]]]
    times: int
    every: Interval | None = None
    probed: Callable[[], dict[str, float]] | None = None
    own: Mapping[str, float] = field(default_factory=dict)
    done: int = field(default=0)
    """Marks passed."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Take the marks up to here as passed, but for one whose evaluation was left half done."""
        half_done = 0 if state.callbacks_done else 1
        self.done = self._marks(state.progress, fraction) - half_done

    def _marks(self, progress: Progress, fraction: float) -> int:
        if self.every is None:
            return int(fraction * self.times + 1e-9)
        return self.every.passed(steps=progress.step, seconds=max(0.0, progress.seconds - progress.setup_seconds))

    def on_step(self, report: StepReport) -> None:
        """Evaluate if the run has passed the next mark."""
        marks = self._marks(report.progress, report.fraction)
        if self.times and (marks > self.done or report.last):
            self.done = marks
            report.notes["valid"] = self.held_out()
            report.notes["samples"] = self.samples()
            if self.probed is not None:
                report.notes["probes"] = self.probed()
            if self.own and report.progress.step == 0:
                report.notes["own_vocabulary"] = dict(self.own)
