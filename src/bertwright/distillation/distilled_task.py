"""Sets up a run in which a student learns a task from teachers: like fine-tuning, but for its start and its loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertwright.distillation.answers import answers_of
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.projection import TOKENS, fit
from bertwright.distillation.states import StateLosses, new_projections
from bertwright.distillation.student import begin_student, is_copied
from bertwright.distillation.task_objective import Student, TaskDistillation, TracedLoss
from bertwright.distillation.taught_rows import TaughtRows
from bertwright.distillation.teachers import Teacher, ask, kept_answers
from bertwright.distillation.traces import trace
from bertwright.errors import ConfigError
from bertwright.files import sha256_of
from bertwright.hub.encoder_folder import read_model
from bertwright.log import working
from bertwright.model.config import training_flops
from bertwright.model.encoder import Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.model.task_model import FineTuned
from bertwright.rng import key_of, stream
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.transfer import treat
from bertwright.types import UNASKED, LabelledBatch

ROWS = 64
"""Rows of a batch on which a start is measured."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a student begins with.

    head         weight [in, K] and bias [K] of its head, where they are known
    projections  the same of each layer of `Student.projections`, where they are known
    """

    encoder: Encoder
    head: tuple[Tensor, Tensor] | None = None
    projections: tuple[tuple[Tensor, Tensor], ...] = ()


@dataclass(frozen=True)
class DistilledSetup(HeadSetup):
    """What seeds have in common in which a student learns a task.

    folder    of the model the student comes from: one of its own, or the first teacher
    teachers  all of them; states are those of the first
    taken     its block, from 1, that each of the student's blocks stands for
    student   whether the student comes from a model of its own
    texts     examples without labels beside those of train; None where there are none
    """

    distill: DistillConfig
    teachers: tuple[Teacher, ...]
    taken: tuple[int, ...]
    student: bool
    texts: Any | None

    @property
    def constant_loss(self) -> None:
        """Nothing: what a student loses is counted from its teachers' answers."""
        return

    def check(self) -> None:
        """Raise ConfigError where losses do not fit the models."""
        super().check()
        if self.distill.weights.reads_states:
            _ = self.states

    @property
    def teacher(self) -> FineTuned:
        """The model of the first teacher."""
        return self.teachers[0].opened.model

    @cached_property
    def states(self) -> StateLosses:
        """The losses that compare states."""
        return StateLosses.of(self.distill, self.encoder_config, self.teacher.encoder.config, self.taken)

    def with_answers(self, folder: Path, identity: Mapping[str, Any]) -> DistilledSetup:
        """Return the setup with the teachers' answers to every row of train, kept in `folder` on disk."""
        train = self.splits["train"]
        rows = train.rows
        assert isinstance(rows, TaughtRows)
        examples = [train.examples] if self.texts is None else [train.examples, self.texts]

        def compute() -> np.ndarray:
            found = [
                ask(
                    teacher, self.task, examples, rows, max_length=self.config.batches.max_length, device=self.device,
                    cast=nullcontext,
                )
                for teacher in self.teachers
            ]  # fmt: skip
            if len(found) == 1:
                return found[0]
            return answers_of(self.task).pooled(found, rows, self.distill.temperature)

        taught = kept_answers(folder, dict(identity), compute)
        return replace(self, splits={**self.splits, "train": replace(train, rows=replace(rows, taught=taught))})

    @cached_property
    def start(self) -> Start:
        """What every seed begins with: it is made once, from the first teacher and rows of train."""
        with kept_random_state():
            torch.manual_seed(key_of("student", self.config.seed))
            if self.student:
                return Start(read_model(self.folder)[0])
            batches = self.start_rows()
            self.teacher.to("cpu")
            with working("the student is made from the teacher"):
                encoder = begin_student(
                    self.distill.student, self.encoder_config, self.taken, self.teacher.encoder, batches
                )
                return self._with_head(encoder, batches)

    def start_rows(self) -> list[LabelledBatch]:
        """Return rows of train, drawn at random, of about as many tokens as a projection is measured on."""
        rows = self.splits["train"].rows
        order = stream("start rows", 0).permutation(len(rows))
        tokens = np.cumsum(rows.lengths[order])
        order = order[: int(np.searchsorted(tokens, TOKENS)) + 1]
        plain = replace(rows, taught=None)
        return [plain.batch(order[at : at + ROWS]) for at in range(0, len(order), ROWS)]

    @torch.no_grad()
    def _with_head(self, encoder: Encoder, batches: Sequence[LabelledBatch]) -> Start:
        """Return an encoder with what is known of its head and of the matrices beside it."""
        teacher, order = self.teacher, torch.from_numpy(self.teachers[0].order)
        if is_copied(encoder.config, teacher.encoder.config):
            head = teacher.classifier
            return Start(encoder, (head.weight[order].T.clone(), head.bias[order].clone()))
        if self.distill.student.start == "noise":
            return Start(encoder)
        student = Student(
            deepcopy(encoder), head_type=self.task.head_type, outputs=len(order), dropout=0.0,
            projections=nn.ModuleList(),
        ).eval()  # fmt: skip
        found, taught, inputs, logits = [], [], [], []
        for batch in batches:
            ours, theirs = trace(student.encoder, batch), trace(teacher.encoder, batch)
            hidden = ours.last if batch.asked is None else student.encoder.encode(
                batch.input_ids, batch.token_type_ids, batch.attention_mask, batch.asked
            )  # fmt: skip
            used = slots_of(batch)
            inputs.append(student.encoder.head_inputs(hidden, self.task.head_type)[used])
            logits.append(teacher(batch)[..., order][used])
            found.append([one[batch.attention_mask] for one in ours.hidden])
            taught.append([theirs.hidden[layer][batch.attention_mask] for layer in (0, *self.taken)])
        projections = [
            fit(torch.cat(list(ours)), torch.cat(list(theirs)))
            for ours, theirs in zip(zip(*found, strict=True), zip(*taught, strict=True), strict=True)
        ]
        return Start(encoder, fit(torch.cat(inputs), torch.cat(logits), ridge=1e-2), tuple(projections))

    def new_model(self, seed: int) -> Student:
        """Return the student as it begins; a head that is not known is drawn from `seed`."""
        start, teacher = self.start, self.teacher.encoder.config
        torch.manual_seed(key_of("head", seed))
        model = Student(
            deepcopy(start.encoder),
            head_type=self.task.head_type,
            outputs=len(self.task.labels),
            dropout=self.config.transfer.head_dropout,
            projections=new_projections(self.encoder_config, teacher, self.distill.weights),
        )
        self.task.init_head(model.classifier)
        if start.head is not None:
            put(model.classifier, *start.head)
        for layer, known in zip(model.projections, start.projections, strict=False):
            put(layer, *known)
        treat(model, self.config.transfer)
        return model.to(self.device)

    def objective(self, model: FineTuned) -> Any:
        """Return the task with what the teachers answer."""
        return TaskDistillation(self.task, self.distill)

    def begin(self, model: Any, seed: int) -> tuple[TrainState, Any, Engine]:
        """Return the state of a run at its beginning, its objective, and how its steps are computed."""
        state, objective, engine = super().begin(model, seed)
        state.callbacks_done = self.start.head is None  # one that answers before its first step is evaluated there
        if self.distill.weights.reads_states:
            if engine.micro_batches is not None and not objective.sums_over_rows:
                raise ConfigError(
                    "distill.weights: steps of choose that are computed in parts learn answers alone; give a smaller "
                    "--batch-size, or --hidden 0 --relations 0 --attention 0"
                )
            teacher = self.teacher.encoder.to(self.device)
            engine.forward_loss = TracedLoss(model, teacher, objective, self.states, self.cast)
        return state, objective, engine

    def row_flops(self, rows: int, length: int) -> int:
        """Return the operations of a step over rows of similar length, those of a teacher that reads them included."""
        of_student = super().row_flops(rows, length)
        if not self.distill.weights.reads_states:
            return of_student
        shape = self.teacher.encoder.config
        return of_student + training_flops(shape, rows=rows, length=length, masked=length, outputs=0) // 3

    def extra_facts(self) -> dict[str, Any]:
        """Return what result.json holds of the distillation."""
        shape = self.encoder_config
        return {
            **super().extra_facts(),
            "teachers": [str(teacher.folder) for teacher in self.teachers],
            "student": {
                "layers": shape.layers, "width": shape.hidden_size, "heads": shape.heads, "blocks": list(self.taken)
            },
            "distillation": self.distill.model_dump(mode="json", exclude_none=True),
            "texts": 0 if self.texts is None else len(self.texts),
        }  # fmt: skip

    def distillation_identity(self, texts: Sequence[Path]) -> dict[str, Any]:
        """Return what must be the same for a run to be gone on with, beside what fine-tuning asks."""
        return {
            "texts": {path.name: sha256_of(path) for path in texts},
            "teachers": {str(place): weights_of(one.folder) for place, one in enumerate(self.teachers)},
            "distillation": self.distill.model_dump(mode="json"),
        }


def weights_of(folder: Path) -> dict[str, str]:
    """Return the checksums of a model's settings and weights, by the names of its files."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors")), *sorted(folder.glob("*.bin"))]
    return {path.name: sha256_of(path) for path in files}


def slots_of(batch: LabelledBatch) -> Tensor:
    """Return [B, M] bool: the positions of a batch that logits are asked of."""
    if batch.asked is None:
        return batch.attention_mask
    if batch.targets.shape == batch.asked.shape:
        return batch.targets != UNASKED
    return torch.ones_like(batch.asked, dtype=torch.bool)


def put(layer: nn.Module, matrix: Tensor, offset: Tensor) -> None:
    """Make a linear layer multiply by `matrix` [in, out] and add `offset` [out]."""
    with torch.no_grad():
        layer.weight.copy_(matrix.T)  # type: ignore[operator]
        layer.bias.copy_(offset)  # type: ignore[operator]
