"""Turns the logits of a student and of its teachers into a loss, as each kind of head means them, and several into one.

Logits of several teachers become those whose probabilities are the mean of theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit, logit, logsumexp
from torch import Tensor

from bertwright.distillation.losses import class_divergence, label_divergence, score_error
from bertwright.distillation.taught_rows import TaughtBatch, TaughtRows
from bertwright.tasks.base import Task
from bertwright.tasks.multiple_choice.task import FIRST
from bertwright.types import UNASKED

SMALLEST = 1e-6
"""The least probability of a label, where several teachers are meant: beyond it their logits say nothing."""


@dataclass(frozen=True)
class Answers:
    """What the logits of a kind of head are.

    loss    (sum, count) of T^2 times the divergence from the teacher's, over what a batch asks
    pooled  logits [Q, K] of several teachers as one
    """

    loss: Callable[[Tensor, TaughtBatch, float], tuple[Tensor, Tensor]]
    pooled: Callable[[Sequence[np.ndarray], TaughtRows, float], np.ndarray]


def answers_of(task: Task[Any]) -> Answers:
    """Return what the logits of a task are."""
    if task.head_type in ("choice", "span"):
        return BY_HEAD[task.head_type]
    return BY_PROBLEM[task.problem]


def _one_by_one(divergence: Callable[..., Tensor]) -> Callable[[Tensor, TaughtBatch, float], tuple[Tensor, Tensor]]:
    """Return the loss of logits [B, M, K] of which each slot is decided by itself."""

    def loss(scores: Tensor, example: TaughtBatch, temperature: float) -> tuple[Tensor, Tensor]:
        distances = divergence(scores, example.taught, temperature=temperature)  # [B, M]
        targets = example.targets
        slots = targets != UNASKED if targets.shape == distances.shape else torch.ones_like(distances, dtype=torch.bool)
        return (distances * slots).sum(), slots.sum()

    return loss


def span_loss(scores: Tensor, example: TaughtBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of logits [B, S, 2]: of the distributions of starts and ends over the tokens of a row."""
    outside = ~example.attention_mask[:, None]
    ours, theirs = (
        one.float().transpose(1, 2).masked_fill(outside, -1e9) for one in (scores, example.taught)
    )  # [B, 2, S]
    distances = class_divergence(ours, theirs, temperature=temperature)
    return distances.mean(1).sum(), distances.new_full((), len(distances))


def choice_loss(scores: Tensor, example: TaughtBatch, temperature: float) -> tuple[Tensor, Tensor]:
    """Return the loss of logits [B, 1, 1]: of the distribution over the choices of each question."""
    question = (example.targets.flatten() >= FIRST).cumsum(0) - 1
    p, q = (_log_shares(one.float().flatten() / temperature, question) for one in (example.taught, scores))
    return (p.exp() * (p - q)).sum() * temperature**2, question[-1] + 1


def _log_shares(logits: Tensor, question: Tensor) -> Tensor:
    """Return log probabilities [B] of choices among those of the same `question` [B]."""
    count = len(logits)  # more than there are questions, which nobody waits for
    most = logits.new_full((count,), -torch.inf).scatter_reduce(0, question, logits.detach(), "amax")
    shifted = logits - most[question]
    masses = logits.new_zeros(count).index_add(0, question, shifted.exp())
    return shifted - masses.log()[question]


def mean_classes(several: Sequence[np.ndarray], rows: TaughtRows, temperature: float) -> np.ndarray:
    """Return logits [Q, K] whose softmax at a temperature is the mean of those of `several`."""
    logs = [one / temperature - logsumexp(one / temperature, axis=-1, keepdims=True) for one in several]
    return np.asarray((logsumexp(logs, axis=0) - np.log(len(logs))) * temperature)


def mean_labels(several: Sequence[np.ndarray], rows: TaughtRows, temperature: float) -> np.ndarray:
    """Return logits [Q, K] whose sigmoid at a temperature is the mean of those of `several`."""
    mean = np.mean([expit(one / temperature) for one in several], axis=0)
    return np.asarray(logit(np.clip(mean, SMALLEST, 1 - SMALLEST)) * temperature)


def mean_scores(several: Sequence[np.ndarray], rows: TaughtRows, temperature: float) -> np.ndarray:
    """Return the mean of scores [Q, 1]."""
    return np.asarray(np.mean(several, axis=0))


def mean_groups(several: Sequence[np.ndarray], rows: TaughtRows, temperature: float) -> np.ndarray:
    """Return logits [Q, K] that are shares of a group: of the tokens of a row, or of the choices of a question."""
    counts = rows.lengths if rows.together is None else rows.together
    begins = np.cumsum(counts) - counts
    logs = []
    for one in several:
        scaled = one.astype(np.float64) / temperature
        totals = np.logaddexp.reduceat(scaled, begins, axis=0)
        logs.append(scaled - np.repeat(totals, counts, axis=0))
    return np.asarray((logsumexp(logs, axis=0) - np.log(len(logs))) * temperature)


BY_PROBLEM = {
    "single_label_classification": Answers(_one_by_one(class_divergence), mean_classes),
    "multi_label_classification": Answers(_one_by_one(label_divergence), mean_labels),
    "regression": Answers(_one_by_one(score_error), mean_scores),
}
"""By what Hugging Face calls the kind of the loss."""
BY_HEAD = {"span": Answers(span_loss, mean_groups), "choice": Answers(choice_loss, mean_groups)}
"""Heads whose logits are shares among tokens or choices."""
