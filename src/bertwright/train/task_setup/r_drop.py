"""Compares two draws of dropout with each other: R-Drop (Liang et al., 2021), for tasks with logits.

Every row stands twice in a batch, so that dropout draws twice for it; the loss is the mean of both plus alpha times how
far the two answers are apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.model.encoder import HeadType
from bertwright.model.task_model import Problem
from bertwright.tasks.base import Task
from bertwright.types import UNASKED, LabelledBatch, Loss, PartSums


def between_classes(first: Tensor, second: Tensor) -> Tensor:
    """Return the symmetric Kullback-Leibler divergence [B, M], in nats, of the softmaxes of logits [B, M, K]."""
    p, q = functional.log_softmax(first, dim=-1), functional.log_softmax(second, dim=-1)
    # KL(p, q) + KL(q, p) is the sum over classes of (p - q)(log p - log q).
    return ((p.exp() - q.exp()) * (p - q)).sum(-1) / 2


def between_labels(first: Tensor, second: Tensor) -> Tensor:
    """Return the same [B, M] for labels that are decided one by one, its mean over them."""
    return ((torch.sigmoid(first) - torch.sigmoid(second)) * (first - second)).mean(-1) / 2


def between_scores(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared difference [B, M] of scores [B, M, 1]."""
    return (first - second).square().squeeze(-1)


DIVERGENCES: dict[Problem, Callable[[Tensor, Tensor], Tensor]] = {
    "single_label_classification": between_classes,
    "multi_label_classification": between_labels,
    "regression": between_scores,
}
ABLE: tuple[HeadType, ...] = ("row", "token")
"""What tasks are about whose scores are one tensor of logits, each by itself."""


class RDrop:
    """A task whose batches are read twice."""

    has_dynamic_slots = False
    sums_over_rows = False

    def __init__(self, task: Task[Any], *, alpha: float) -> None:
        """Add `alpha` times the distance of two draws to the loss of `task`, whose head type is one of ABLE."""
        self.task, self.alpha = task, alpha

    def corrupt(self, batch: LabelledBatch, generator: torch.Generator, progress: float = 1.0) -> LabelledBatch:
        """Return the rows twice, one after the other."""
        held = {field.name: getattr(batch, field.name) for field in fields(batch)}
        return replace(batch, **{name: torch.cat([value, value]) for name, value in held.items()})

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the loss of both halves of logits [2B, M, K] together, and what their distance adds."""
        loss = self.task.loss(scores, example)
        first, second = scores.float().chunk(2)
        distance = DIVERGENCES[self.task.problem](first, second)
        targets = example.targets[: len(first)]
        one_by_one = not targets.is_floating_point() and targets.ndim == distance.ndim
        mask = targets != UNASKED if one_by_one else torch.ones_like(distance, dtype=torch.bool)
        count = mask.sum()
        mean = (distance * mask).sum() / count
        return Loss(loss.total + self.alpha * mean, loss.parts | {"r_drop": PartSums(mean.detach() * count, count)})
