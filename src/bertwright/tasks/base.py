"""What a task is: examples, encode, head, evaluate. Four answers for each task, and everything else is the engine's.

    file -> examples -> LabelledRows -> logits -> EvalResult
         read        encode          (a head)  evaluate

A task also has the loss of a batch (`loss`), which is all the training loop asks of it. Tasks are frozen: each is made
once, from its training file or from the labels of a trained model.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

import numpy as np

from bertwright.config import Range, Section
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import EncodedExamples, Examples
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import LabelledBatch, Loss, TokenRows

if TYPE_CHECKING:  # tasks name tensors in training alone: an exported model is asked without torch
    import torch
    from torch import Tensor, nn

    from bertwright.model.crf import Crf
    from bertwright.model.crf_decode import CRFDecoder
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import Problem

E = TypeVar("E", bound=Examples)
"""What the examples of a task are."""
B = TypeVar("B", bound=TokenRows)
"""What its batches are."""


@dataclass(frozen=True)
class TrainFile:
    """A training file, and what is asked of the task that is made from it.

    columns       where its names do not say which column is which
    head          the head asked for
    extra_config  settings of this task alone
    dev_fraction  the share of its examples to hold out for dev; None where there is a dev file
    """

    path: Path
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    head: HeadConfig = field(default_factory=HeadConfig)
    extra_config: Mapping[str, Any] = field(default_factory=dict)
    dev_fraction: float | None = None


class FinetuneTask:
    """What training asks of every task, also of those without a head: translate and embed."""

    name: ClassVar[str]
    sums_over_rows: ClassVar[bool] = True
    """Whether the loss of a batch is a sum over its rows, divided by a sum over them: it can be had row by row."""
    labels: tuple[str, ...]
    """Names of the head's outputs."""
    has_dynamic_slots = False
    """No task grows its batches along a run (see train/step.py)."""

    @property
    def positive(self) -> str | None:
        """The class whose F1 is reported, where there are two; None elsewhere."""
        return None

    def constant_loss(self, examples: Any) -> float | None:
        """Return the loss of the best answer that is the same for all examples, in nats; None where it is not known."""
        return None

    def corrupt(self, batch: B, generator: torch.Generator, progress: float = 1.0) -> B:
        """Hide nothing: the text of a task is read as it is."""
        return batch


class Task(FinetuneTask, ABC, Generic[E]):
    """A task with all it has learned from its training file, but for the weights of encoder and head."""

    head_type: ClassVar[HeadType]
    """What the head is about: rows, tokens, spans or choices."""
    metric: ClassVar[str]
    """The figure the best checkpoint is chosen by, where no other is asked for."""
    metrics: ClassVar[tuple[str, ...]]
    """Every figure `evaluate` gives."""
    problem: ClassVar[Problem] = "single_label_classification"
    """What Hugging Face calls the kind of its loss."""
    pairs: bool | None = None
    """Whether its examples are pairs of texts; None where that is not known, or they are neither."""
    asks: ClassVar[str | None] = None
    """How its questions are given to `predict`, where the head does not say it: see `inference/questions.py`."""
    options: ClassVar[type[Section]] = Section
    """What `options` of a run may hold for this task; usually nothing."""
    space: ClassVar[Mapping[str, Range]] = {}
    """What `bertwright tune` searches for the head of this task; usually nothing."""

    @classmethod
    @abstractmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, E]]:
        """Return the task of a training file, and its examples as "train" and, where some are held out, "dev".

        Raises InputError, UsageError or ConfigError with the reason.
        """

    @classmethod
    @abstractmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model, whose head has outputs of these names.

        `extra_config` is what its folder keeps: the property of that name. Raises ModelError or ConfigError.
        """

    @property
    def extra_config(self) -> dict[str, Any]:
        """The settings of its own that a model's folder keeps for `from_labels`; none, usually."""
        return {}

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
    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> E:
        """Return texts, or pairs of texts, as examples whose labels nobody knows."""

    @abstractmethod
    def encode(self, examples: E, encoder: TextEncoder) -> EncodedExamples[E, LabelledRows]:
        """Return the examples with the rows they become."""

    @abstractmethod
    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the loss of logits [B, M, outputs] against the targets [B, M] of a batch."""

    @abstractmethod
    def evaluate(self, logits: np.ndarray, examples: E, *, mistakes: int = 0) -> EvalResult:
        """Return how good logits [Q, outputs] are, in the order of the encoded examples, with the worst mistakes."""

    @abstractmethod
    def resampled(self, logits: np.ndarray, examples: E) -> Resampled:
        """Return the figures of logits [Q, outputs] on any choice of examples, by which models are compared."""

    def counted(self, examples: E) -> Examples:
        """Return what `resampled` counts the figures over, in its order: the examples, as a rule."""
        return examples

    @abstractmethod
    def predictions(self, logits: np.ndarray, examples: E) -> list[dict[str, Any]]:
        """Return what the logits [Q, outputs] say of each encoded example, as `predict` shows it."""

    def tuned(self, logits: np.ndarray, examples: E) -> Self:
        """Return the task with what is best for logits [Q, outputs] of dev: thresholds, a temperature; or as it is."""
        return self

    def suspects(self, logits: np.ndarray, examples: E) -> list[tuple[int, dict[str, Any]]]:
        """Return the examples whose label is doubtful, with their places, of out-of-fold logits; usually none are."""
        return []

    @property
    def tuned_settings(self) -> dict[str, Any]:
        """What `tuned` has set, as result.json shows it."""
        return {}

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the head's outputs: the labels, usually."""
        return self.labels

    @property
    def divisors(self) -> np.ndarray:
        """What each output of the model that is written is divided by, float64."""
        return np.ones(len(self.outputs))

    def new_crf(self) -> Crf | None:
        """Return what a new model has above its logits, where the task decides over whole rows; usually nothing."""
        return None

    def with_crf(self, crf: Crf | CRFDecoder | None) -> Self:
        """Return the task with the CRF of a model; as it is where tags are not what it predicts."""
        return self

    def init_head(self, head: nn.Linear) -> None:
        """Set what of a new head is known beforehand; usually nothing."""
        return
