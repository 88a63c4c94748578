"""Says which of several choices goes with a context: one logit for each, a softmax over those of a question.

A row is [CLS] context [SEP] choice [SEP], and its [CLS] is scored (Devlin et al., 2018, section 4.4, on SWAG).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.log import ResultTable, note
from bertwright.tasks.base import Task, TrainFile
from bertwright.tasks.bootstrap import Resampled, means
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.examples import EncodedExamples, split_dev
from bertwright.tasks.multiple_choice.reader import Choices, choices_of_questions, lacks_right, read_choices
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.encoder import HeadType

RIGHT, FIRST = 1, 2
"""The target of a row: RIGHT where its choice is, plus FIRST where it is the first of its question."""


@dataclass(frozen=True)
class Choose(Task[Choices]):
    """One of several choices, by the softmax of their logits; `columns` are those of a table that are given."""

    name: ClassVar[str] = "choose"
    sums_over_rows: ClassVar[bool] = False
    head_type: ClassVar[HeadType] = "choice"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    labels = ("choice",)
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Choices]]:
        """Return the task and the questions of a training table."""
        file.head.refuse("multi_label", "class_weights", "crf", "positive", "windows", task=cls.name)
        examples = read_choices(file.path, file.columns)
        fewest, most = int(examples.counts.min()), int(examples.counts.max())
        several = f"{most}" if fewest == most else f"{fewest} to {most}"
        note(f"{file.path}: {len(examples):,} questions, {several} choices each")
        return cls(file.columns), split_dev(examples, file.dev_fraction)

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model."""
        return cls()

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns given."""
        return replace(self, columns=columns)

    def read(self, path: Path) -> Choices:
        """Return the questions of another table."""
        return read_choices(path, self.columns)

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without the right choices as what is to be predicted; None where it has them."""
        given = self.columns
        return UnlabelledFile(path, given.text, given.pair) if lacks_right(path, given) else None

    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> Choices:
        """Return contexts with their choices."""
        return choices_of_questions(questions)

    def encode(self, examples: Choices, encoder: TextEncoder) -> EncodedExamples[Choices, LabelledRows]:
        """Return a row for each choice; those of a question stay together."""
        firsts = np.cumsum(examples.counts) - examples.counts
        targets = np.zeros(len(examples.choices), dtype=np.int64)
        targets[firsts] += FIRST
        targets[firsts + np.maximum(examples.right, 0)] += RIGHT
        return EncodedExamples(examples, replace(encoder.rows(*examples.pairs(), targets), together=examples.counts))

    def constant_loss(self, examples: Choices) -> float | None:
        """Return the mean logarithm of the number of choices."""
        return float(np.log(examples.counts).mean())

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy of questions, in nats, from logits [B, 1, 1] of all their choices."""
        logits, targets = scores.float().flatten(), example.targets.flatten()
        question = (targets >= FIRST).cumsum(0) - 1
        right = targets % FIRST == RIGHT
        count = right.sum()
        most = logits.new_full((len(logits),), -np.inf).scatter_reduce(0, question, logits.detach(), "amax")
        masses = logits.new_zeros(len(logits)).index_add(0, question, (logits - most[question]).exp())
        nats = (masses[question].log() + most[question] - logits) * right
        correct = (right & (logits == most[question])).sum()
        return Loss(nats.sum() / count, {self.name: PartSums(nats.detach().sum(), count, correct)})

    def evaluate(self, logits: np.ndarray, examples: Choices, *, mistakes: int = 0) -> EvalResult:
        """Return accuracy and loss, a table by where the right choice stands, and the surest wrong predictions."""
        chosen, probabilities, firsts = _chosen(logits, examples)
        of_right = probabilities[firsts + examples.right]
        correct = chosen == examples.right
        figures = {"accuracy": float(correct.mean()), "loss": float(-np.log(np.maximum(of_right, 1e-300)).mean())}
        wrong = np.flatnonzero(~correct)
        worst = wrong[np.argsort(of_right[wrong], kind="stable")][:mistakes].tolist()
        return EvalResult(
            figures,
            _by_place(chosen, examples),
            [
                Mistake(
                    text=f"{examples.contexts[place]} | {examples.starts[place]}".removesuffix(" | "),
                    label=examples.of(place)[examples.right[place]],
                    prediction=f"{examples.of(place)[chosen[place]]} "
                    f"({probabilities[firsts[place] + chosen[place]]:.1%})",
                    error=float(1 - of_right[place]),
                )
                for place in worst
            ],
        )

    def resampled(self, logits: np.ndarray, examples: Choices) -> Resampled:
        """Return what `evaluate` gives on any choice of questions."""
        chosen, probabilities, firsts = _chosen(logits, examples)
        nats = -np.log(np.maximum(probabilities[firsts + examples.right], 1e-300))
        return means({"accuracy": (chosen == examples.right).astype(np.float64), "loss": nats})

    def predictions(self, logits: np.ndarray, examples: Choices) -> list[dict[str, Any]]:
        """Return for each question the most probable choice, its place from 0, and the probability of every choice."""
        chosen, probabilities, firsts = _chosen(logits, examples)
        begun = zip(firsts.tolist(), examples.counts.tolist(), chosen.tolist(), strict=True)
        return [
            {
                "context": f"{examples.contexts[place]} {examples.starts[place]}".strip(),
                "choice": examples.choices[first + best],
                "place": best,
                "probability": float(probabilities[first + best]),
                "probabilities": probabilities[first : first + count].tolist(),
            }
            for place, (first, count, best) in enumerate(begun)
        ]


def _chosen(logits: np.ndarray, examples: Choices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the most probable choice [N] of each question, the probabilities [R] of all, and where questions begin."""
    firsts = np.cumsum(examples.counts) - examples.counts
    values = logits[:, 0].astype(np.float64)
    most = np.maximum.reduceat(values, firsts)
    raised = np.exp(values - np.repeat(most, examples.counts))
    probabilities = raised / np.repeat(np.add.reduceat(raised, firsts), examples.counts)
    question = np.repeat(np.arange(len(examples)), examples.counts)
    at = np.flatnonzero(values == most[question])
    _, first_of = np.unique(question[at], return_index=True)
    return at[first_of] - firsts, probabilities, firsts


def _by_place(chosen: np.ndarray, examples: Choices) -> ResultTable:
    """Return how often each place was right and was chosen: a model that sees only the place shows it here."""
    rows = [
        [
            str(place),
            f"{np.count_nonzero(here := examples.right == place):,}",
            f"{np.count_nonzero(chosen == place):,}",
            f"{(chosen[here] == place).mean():.4f}" if here.any() else "",
        ]
        for place in range(int(examples.counts.max()))
    ]
    return ResultTable("questions by the place of the right choice", ["place", "right", "chosen", "accuracy"], rows)
