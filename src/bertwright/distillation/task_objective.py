"""Turns a task into one whose student also learns what teachers answer, and what one of them computes on its way."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from bertwright.distillation.answers import answers_of
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.states import StateLosses
from bertwright.distillation.taught_rows import TaughtBatch
from bertwright.distillation.traces import frozen_trace, trace
from bertwright.model.encoder import Encoder, HeadType
from bertwright.model.layers.attention import gather_positions
from bertwright.model.sentence_encoder import mean_of
from bertwright.model.task_model import FineTuned
from bertwright.tasks.base import Task
from bertwright.types import LabelledBatch, Loss, LossParts, PartSums


class Student(FineTuned):
    """A model of a task, and the matrices through which its states are compared with a wider teacher's."""

    def __init__(
        self, encoder: Encoder, *, head_type: HeadType, outputs: int, dropout: float, projections: nn.ModuleList
    ) -> None:
        """Take over `encoder`; the new head is drawn as that of `FineTuned`."""
        super().__init__(encoder, head_type=head_type, outputs=outputs, dropout=dropout)
        self.projections = projections

    def logits_from(self, last: Tensor, batch: LabelledBatch) -> Tensor:
        """Return what `forward` returns, from all hidden states [B, S, H] of the last block."""
        if self.averages:
            last = mean_of(last.float(), batch.attention_mask.unsqueeze(-1)).unsqueeze(1).to(last.dtype)
        elif batch.asked is not None:
            last = gather_positions(last, batch.asked)
        logits: Tensor = self.classifier(self.dropout(self.encoder.head_inputs(last, self.head_type)))
        return logits


@dataclass(frozen=True, eq=False)
class TaskDistillation:
    """The loss of a student: what the teachers answer, and the labels of rows that have some.

    The loss of the labels of a batch weighs by the share of its rows that have labels.
    """

    has_dynamic_slots: ClassVar[bool] = False
    task: Task[Any]
    config: DistillConfig

    @property
    def sums_over_rows(self) -> bool:
        """Whether the loss of a batch can be had row by row: that of choices cannot."""
        return self.task.sums_over_rows

    def corrupt(self, batch: TaughtBatch, generator: torch.Generator, progress: float = 1.0) -> TaughtBatch:
        """Hide nothing: the text of a task is read as it is."""
        return batch

    def loss(self, scores: Tensor, example: TaughtBatch) -> Loss:
        """Return the loss of logits [B, M, K], a mean over what the batch asks."""
        weights = self.config.weights
        summed, count = answers_of(self.task).loss(scores, example, self.config.temperature)
        total, parts = (
            weights.logits * summed / count.clamp(min=1),
            LossParts({"logits": PartSums(summed.detach(), count)}),
        )
        known = example.labelled
        if weights.labels and any(known.counts):
            labels = self.task.loss(scores[known.flat], example.known())
            total = total + weights.labels * labels.total * (sum(known.counts) / len(known.counts))
            parts |= labels.parts
        return Loss(total, parts, count)


@dataclass(frozen=True, eq=False)
class TracedLoss:
    """Runs student and teacher on a batch, and returns the loss of the student's answers and states."""

    student: Student
    teacher: Encoder
    objective: TaskDistillation
    states: StateLosses
    cast: Callable[[], AbstractContextManager[Any]]

    def __call__(self, example: TaughtBatch) -> Loss:
        """Return the loss of a batch on the device."""
        with self.cast():
            taught = frozen_trace(self.teacher, example)
            found = trace(self.student.encoder, example)
            logits = self.student.logits_from(found.last, example)
            compared = self.states.parts(
                self.student.encoder, self.teacher, (found, taught), self.student.projections, example.attention_mask
            )
        loss = self.objective.loss(logits, example)
        return with_states(loss, self.states, compared, count=loss.parts["logits"].count)


def with_states(loss: Loss, states: StateLosses, compared: dict[str, Tensor], *, count: Tensor) -> Loss:
    """Return a loss with those of states added; `count` is what their means are reported over."""
    parts = {name: PartSums(value.detach() * count, count) for name, value in compared.items()}
    return Loss(loss.total + states.total(compared), loss.parts | parts, loss.mass)
