"""Marks logits against true classes: the loss that classifying rows and tagging words share."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from bertwright.tasks.contract import TaskLoss
from bertwright.types import UNASKED


def class_loss(scores: Tensor, targets: Tensor, *, name: str) -> TaskLoss:
    """Return the mean cross-entropy (nats) of logits [B, M, K] where `targets` [B, M] ask, and sums called `name`_*."""
    logits, flat = scores.float().flatten(0, 1), targets.flatten()
    total = functional.cross_entropy(logits, flat, ignore_index=UNASKED)
    asked = flat != UNASKED
    count = asked.sum()
    correct = ((logits.argmax(-1) == flat) & asked).sum()
    sums = {"sum": total.detach() * count, "count": count, "correct": correct}
    return TaskLoss(total, {f"{name}_{part}": value for part, value in sums.items()})
