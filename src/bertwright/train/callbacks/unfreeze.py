"""Turns reports into more and more trained weights: gradual unfreezing (Howard and Ruder, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.state import TrainState


@dataclass
class UnfreezeCallback(Callback):
    """Unfreezes one group of parameters after another, evenly over the first `share` of a run; the last at its end.

    A frozen parameter gets no gradient, so that optimizers pass it over; their moments begin when it is unfrozen.
    """

    groups: Sequence[Sequence[nn.Parameter]]
    share: float
    due: int = 0
    """Groups that are trained now."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Unfreeze what is due before the first step."""
        self.thaw(fraction)

    def on_step(self, report: StepReport) -> None:
        """Unfreeze what is due before the next step."""
        report.changed |= self.thaw(report.fraction)

    def thaw(self, fraction: float) -> bool:
        """Train the groups due at a `fraction` of the run, and no others; return whether that changes anything."""
        due = min(len(self.groups), int(fraction / self.share * len(self.groups) + 1e-9))
        before, self.due = self.due, due
        for place, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(place < due)
        return due != before
