"""Turns reports into more and more trained weights: gradual unfreezing (Howard and Ruder, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from bertwright.train.loop import StepReport


@dataclass(frozen=True)
class UnfreezeListener:
    """Thaws one group of parameters after another, evenly over the first `share` of a run; the last thaws at its end.

    A frozen parameter gets no gradient, so that optimizers pass it over; their moments begin when it thaws.
    """

    groups: Sequence[Sequence[nn.Parameter]]
    share: float

    def __call__(self, report: StepReport) -> None:
        """Thaw what is due before the next step."""
        self.thaw(report.progress)

    def thaw(self, progress: float) -> None:
        """Train the groups that are due at `progress` in [0, 1] of the run, and no others of them."""
        due = min(len(self.groups), int(progress / self.share * len(self.groups) + 1e-9))
        for place, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(place < due)
