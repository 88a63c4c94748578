"""Turns weights and losses of a run into the reason why it has diverged, if it has: then its model is worth nothing.

A loss that is no number shows in the next step, but after the last one there is none; and a rate far too high can leave
finite weights, as good as drawn at random and a thousand times as large.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from bertwright.errors import DivergedError
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.loop import weight_norm
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.state import TrainState

LOSS_GROWTH = 10.0
"""A run has diverged where its loss is so many times 1 + that of its first step."""
WEIGHT_GROWTH = 1000.0
"""So it has where its weights are so many times as large, in norm, as before its first step."""
LOSSES = ("loss", "mlm_loss")
"""Held-out figures that are losses of the kind that is trained on."""
SQUARED_ERROR = "mean_squared_error"
"""The loss of scores: one score far off can make it any times as large, so only its being a number is looked at."""


@dataclass
class DivergenceCallback(Callback):
    """Leaves "diverged" in the notes of an evaluation, or of the last step, where the run has diverged by then.

    Stands after evaluation, and before who takes weights for the best.
    """

    SAVED: ClassVar[Mapping[str, str]] = {"first_loss": "first_loss", "first_norm": "first_norm"}

    model: nn.Module
    window: MetricsWindow
    group: Group = ALONE
    first_loss: float = 0.0
    """Loss of the first step; 0 where it is not known, as in runs of earlier versions. So with ..."""
    first_norm: float = 0.0
    """... the norm of the weights before it."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Measure the weights that a run begins with."""
        if not state.progress.step:
            self.first_norm = weight_norm(self.model)

    @torch.no_grad()
    def on_step(self, report: StepReport) -> None:
        """Look at the weights, at the held-out loss, and at the loss since the last line of metrics.jsonl."""
        loss = self.window.loss
        if report.progress.step == 1 and loss is not None:
            self.first_loss = loss
        valid = report.notes.get("valid") or {}
        if not valid and not report.last:
            return
        losses = [float(valid[name]) for name in LOSSES if name in valid]
        losses += [] if loss is None else [loss]
        if SQUARED_ERROR in valid:
            losses = [loss for loss in (*losses, float(valid[SQUARED_ERROR])) if not math.isfinite(loss)]
        reason = self.reason(weight_norm(self.model), losses, step=report.progress.step)
        if self.group.any(reason is not None):
            report.notes["diverged"] = reason or "another process says so"

    def reason(self, norm: float, losses: Sequence[float], *, step: int) -> str | None:
        """Return why a run whose weights have that norm, and whose loss these values, has diverged; None if it has not.

        >>> begun = DivergenceCallback(nn.Linear(1, 1), MetricsWindow(), first_loss=0.7, first_norm=1.5)
        >>> begun.reason(2.0, [31.5], step=9)
        'the loss is 31.5 at step 9, and was 0.7 at the first step'
        """
        if not math.isfinite(norm):
            return f"step {step} left weights that are no numbers"
        if norm > WEIGHT_GROWTH * (self.first_norm or math.inf):
            return f"after step {step} the weights are {norm / self.first_norm:,.0f} times as large as at first"
        most = LOSS_GROWTH * (1 + self.first_loss) if self.first_loss else math.inf
        worst = next((loss for loss in losses if not loss <= most), None)  # so written, it is true of nan too
        if worst is None:
            return None
        return f"the loss is {worst:.4g} at step {step}, and was {self.first_loss:.4g} at the first step"


class EndIfDiverged(Callback):
    """Raises DivergedError after the last step of a run that has diverged; stands after who writes figures down."""

    def on_step(self, report: StepReport) -> None:
        """Raise it, if it is time."""
        if report.last and "diverged" in report.notes:
            raise DivergedError(f"the run diverged: {report.notes['diverged']}")
