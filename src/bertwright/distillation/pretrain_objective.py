"""Turns rows of plain text into the loss of a student that is pre-trained: a teacher's words, states and relations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.distillation.losses import class_divergence
from bertwright.distillation.states import StateLosses
from bertwright.distillation.task_objective import with_states
from bertwright.distillation.traces import Trace, frozen_trace, trace
from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention import gather_positions
from bertwright.objectives.base import PretrainingObjective, unhidden
from bertwright.types import Batch, Loss, LossParts, MaskedBatch, PartSums, Scores


@dataclass(frozen=True, eq=False)
class PretrainDistillation:
    """What a student reads: rows with words masked where they are to be predicted, and as they are elsewhere.

    masked       hides words; None where nobody predicts any
    logits       weight of the teacher's predictions of masked words
    labels       weight of the masked words themselves
    """

    masked: PretrainingObjective | None
    logits: float
    labels: float
    temperature: float

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.masked is not None and self.masked.has_dynamic_slots

    def corrupt(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> MaskedBatch:
        """Return the rows that student and teacher both read."""
        return unhidden(batch) if self.masked is None else self.masked.corrupt(batch, generator, progress)

    def loss(self, scores: Scores, example: MaskedBatch) -> Loss:
        """Return the loss of the masked words alone."""
        assert self.masked is not None
        found = self.masked.loss(scores, example)
        return Loss(self.labels * found.total, found.parts)

    def word_loss(self, student: Tensor, teacher: Tensor, example: MaskedBatch) -> Loss:
        """Return the loss of logits [B, M, V] of student and teacher at masked positions."""
        found = self.loss(Scores(mlm=student, nsp=None), example)
        count = example.masked_weights.sum()
        distances = class_divergence(student, teacher, temperature=self.temperature) * example.masked_weights
        total = found.total + self.logits * distances.sum() / count.clamp(min=1.0)
        return Loss(total, found.parts | {"logits": PartSums(distances.detach().sum(), count)})


@dataclass(frozen=True, eq=False)
class TracedPretraining:
    """Runs student and teacher on rows, and returns the loss of the student."""

    student: Encoder
    teacher: Encoder
    projections: nn.ModuleList
    objective: PretrainDistillation
    states: StateLosses
    cast: Callable[[], AbstractContextManager[Any]]

    def __call__(self, example: MaskedBatch) -> Loss:
        """Return the loss of a batch on the device."""
        count = example.attention_mask.sum().float()
        with self.cast():
            taught = frozen_trace(self.teacher, example)
            found = trace(self.student, example)
            words = self._words(found, taught, example)
            compared = (
                self.states.parts(self.student, self.teacher, (found, taught), self.projections, example.attention_mask)
                if self.states.weights.reads_states
                else {}
            )
        loss = Loss(count.new_zeros(()), LossParts()) if words is None else self.objective.word_loss(*words, example)
        return with_states(loss, self.states, compared, count=count) if compared else loss

    def _words(self, found: Trace, taught: Trace, example: MaskedBatch) -> tuple[Tensor, Tensor] | None:
        """Return logits [B, M, V] of student and teacher at masked positions; None where nothing is masked."""
        if self.objective.masked is None:
            return None
        with torch.no_grad():
            theirs = self.teacher.mlm_logits(gather_positions(taught.last, example.masked_positions))
        return self.student.mlm_logits(gather_positions(found.last, example.masked_positions)), theirs
