"""What a task is: examples, encode, head, score. Four answers for each task, and everything else is the engine's.

    file -> examples -> LabelledRows -> logits -> EvalResult
         read        encode          (a head)  judge

A task also marks the answers of a batch (`loss`), which is all the training loop asks of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from bertwright.config import Section
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import LabelledBatch, Loss

if TYPE_CHECKING:  # tasks name tensors in training alone: an exported model is asked without torch
    import torch
    from torch import Tensor, nn

    from bertwright.model.crf import Crf
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import FineTuned, Problem

E = TypeVar("E")
"""What the examples of a task are."""


class Task(ABC, Generic[E]):
    """A task with all it has learned from its training file, but for the weights."""

    name: ClassVar[str]
    sums_over_rows: ClassVar[bool] = True
    """Whether the loss of a batch is a sum over its rows, divided by a sum over them: it can be had row by row."""
    part: ClassVar[HeadType]
    """What the head is about."""
    metric: ClassVar[str]
    """The figure the best checkpoint is chosen by, where no other is asked for."""
    metrics: ClassVar[tuple[str, ...]]
    """Every figure `judge` gives."""
    problem: ClassVar[Problem]
    """What Hugging Face calls the kind of its loss."""
    labels: tuple[str, ...]
    """Names of the head's outputs."""
    pairs: bool | None = None
    """Whether its examples are pairs of texts; None where that is not known, or they are neither."""
    options: ClassVar[type[Section]] = Section
    """What `options` of a run may hold for this task, handed to `with_saved_settings`; nothing, as a rule."""
    has_dynamic_slots = False
    """No task grows its batches along a run (see train/step.py)."""

    @classmethod
    @abstractmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, E]:
        """Return the task of a training file, and its examples; raises InputError with the reason."""

    @classmethod
    @abstractmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model, whose head has outputs of these names."""

    @abstractmethod
    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task of a trained model with the columns of a labelled file; raises InputError or UsageError."""

    @abstractmethod
    def read(self, path: Path) -> E:
        """Return the examples of another file, labelled as the training file is; raises InputError."""

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a file without labels as what is to be predicted; None where it has some, or that is not clear."""
        return None

    @abstractmethod
    def ask(self, questions: Sequence[tuple[str, ...]]) -> E:
        """Return texts, or pairs of texts, as examples whose targets nobody knows."""

    @abstractmethod
    def encode(self, examples: E, encoder: TextEncoder) -> LabelledRows:
        """Return the examples as rows."""

    @abstractmethod
    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Mark logits [B, M, outputs] against the targets [B, M] of a batch."""

    @abstractmethod
    def judge(self, logits: np.ndarray, examples: E, *, mistakes: int = 0) -> EvalResult:
        """Judge logits [Q, outputs] of everything asked, in the order of the examples, with the worst mistakes."""

    @abstractmethod
    def answers(self, logits: np.ndarray, examples: E) -> list[dict[str, Any]]:
        """Return what the logits [Q, outputs] say of each example, as `predict` shows it."""

    def with_saved_settings(self, own: Mapping[str, Any]) -> Self:
        """Return the task with settings of its own, from its section of a run or from the folder of a trained model."""
        return self

    @property
    def own(self) -> dict[str, Any]:
        """The settings of its own that a folder keeps for `with_saved_settings`; none, as a rule."""
        return {}

    @property
    def positive(self) -> str | None:
        """The class whose F1 is reported, where there are two; None elsewhere."""
        return None

    def settled(self, judged: EvalResult) -> Self:
        """Return the task with what is set by looking at a judgement on dev; nothing, as a rule."""
        return self

    def with_head(self, head: HeadConfig, examples: E) -> Self:
        """Return the task with the head asked for; `examples` are those of training. Raises ConfigError if unfit."""
        head.refuse("multi_label", "class_weights", "crf", "positive", task=self.name)
        return self

    def new_crf(self) -> Crf | None:
        """Return what a new model has above its logits, where the task decides over whole rows; nothing, as a rule."""
        return None

    def with_crf(self, model: FineTuned) -> Self:
        """Return the task with what a model knows beside its logits; nothing, as a rule."""
        return self

    def start_head(self, head: nn.Linear) -> None:
        """Set what of a new head is known beforehand; nothing, as a rule."""
        return

    def corrupt(self, batch: LabelledBatch, generator: torch.Generator, progress: float = 1.0) -> LabelledBatch:
        """Hide nothing: the text of a task is read as it is."""
        return batch
