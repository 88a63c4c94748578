"""Turns weights and losses of a run into the reason why it has diverged, if it has: then its model is worth nothing.

A loss that is no number shows in the next step, but after the last one there is none; and a rate far too high can leave
finite weights, as good as drawn at random and a thousand times as large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn

from bertwright.errors import DivergedError
from bertwright.train.loop import Progress, StepReport, weight_norm
from bertwright.train.parallel.group import ALONE, Group

LOSS_GROWTH = 10.0
"""A run has diverged where its loss is so many times 1 + that of its first step."""
WEIGHT_GROWTH = 1000.0
"""So it has where its weights are so many times as large, in norm, as before its first step."""
LOSSES = ("loss", "mlm_loss")
"""Held-out figures that are losses of the kind that is trained on."""
SQUARED_ERROR = "mean_squared_error"
"""The loss of scores: one score far off can make it any times as large, so only its being a number is looked at."""


def reason_of_divergence(norm: float, losses: list[float], position: Progress) -> str | None:
    """Return why a run whose weights have that norm, and whose loss these values, has diverged; None where it has not.

    >>> reason_of_divergence(2.0, [31.5], Progress(step=9, first_loss=0.7, first_norm=1.5))
    'the loss is 31.5 at step 9, and was 0.7 at the first step'
    """
    if not math.isfinite(norm):
        return f"step {position.step} left weights that are no numbers"
    if norm > WEIGHT_GROWTH * (position.first_norm or math.inf):
        return (
            f"after step {position.step} the weights are {norm / position.first_norm:,.0f} times as large as at first"
        )
    most = LOSS_GROWTH * (1 + position.first_loss) if position.first_loss else math.inf
    worst = next((loss for loss in losses if not loss <= most), None)  # so written, it is true of nan too
    if worst is None:
        return None
    return f"the loss is {worst:.4g} at step {position.step}, and was {position.first_loss:.4g} at the first step"


@dataclass(frozen=True)
class DivergenceListener:
    """Leaves "diverged" in the notes of an evaluation, or of the last step, where the run has diverged by then.

    Stands after evaluation, and before who takes weights for the best.
    """

    model: nn.Module
    group: Group = ALONE

    @torch.no_grad()
    def __call__(self, report: StepReport) -> None:
        """Look at the weights, at the held-out loss, and at the loss since the last line of metrics.jsonl."""
        valid = report.notes.get("valid") or {}
        if not valid and not report.last:
            return
        window = report.position.window
        losses = [float(valid[name]) for name in LOSSES if name in valid]
        losses += [window["loss"] / window["steps"]] if window else []
        if SQUARED_ERROR in valid:
            losses = [loss for loss in (*losses, float(valid[SQUARED_ERROR])) if not math.isfinite(loss)]
        reason = reason_of_divergence(weight_norm(self.model), losses, report.position)
        if self.group.any(reason is not None):
            report.notes["diverged"] = reason or "another process says so"


def end_if_diverged(report: StepReport) -> None:
    """Raise DivergedError after the last step of a run that has diverged; stands after who writes figures down."""
    if report.last and "diverged" in report.notes:
        raise DivergedError(f"the run diverged: {report.notes['diverged']}")
