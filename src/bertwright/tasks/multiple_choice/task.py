"""Says which of several choices goes with a context: one logit for each, a softmax over those of a question.

A row is [CLS] context [SEP] choice [SEP], and its [CLS] is scored (Devlin et al., 2018, section 4.4, on SWAG).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.log import note
from bertwright.tasks.base import Task
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake, ResultTable
from bertwright.tasks.multiple_choice.reader import Choices, asked_choices, lacks_right, read_choices
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.encoder import HeadType

RIGHT, FIRST = 1, 2
"""The target of a row: RIGHT where its choice is, plus FIRST where it is the first of its question."""


class Choose(Task[Choices]):
    """One of several choices, by the softmax of their logits."""

    name: ClassVar[str] = "choose"
    sums_over_rows: ClassVar[bool] = False
    part: ClassVar[HeadType] = "choice"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "loss")
    problem: ClassVar[Literal["regression", "single_label_classification"]] = "single_label_classification"
    labels = ("choice",)

    def __init__(self, columns: ColumnsConfig | None = None) -> None:
        """Hold which columns of a table were told."""
        self.columns = columns or ColumnsConfig()

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, Choices]:
        """Return the task and the questions of a training table."""
        examples = read_choices(path, columns)
        fewest, most = int(examples.counts.min()), int(examples.counts.max())
        several = f"{most}" if fewest == most else f"{fewest} to {most}"
        note(f"{path}: {len(examples):,} questions, {several} choices each")
        return cls(columns), examples

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls()

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns told."""
        return type(self)(columns)

    def read(self, path: Path) -> Choices:
        """Return the questions of another table."""
        return read_choices(path, self.columns)

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without the right choices as what is to be predicted; None where it has them."""
        given = self.columns
        return UnlabelledFile(path, given.text, given.pair) if lacks_right(path, given) else None

    def ask(self, questions: Sequence[tuple[str, ...]]) -> Choices:
        """Return contexts with their choices."""
        return asked_choices(questions)

    def encode(self, examples: Choices, encoder: TextEncoder) -> LabelledRows:
        """Return a row for each choice; those of a question stay together."""
        firsts = np.cumsum(examples.counts) - examples.counts
        targets = np.zeros(len(examples.choices), dtype=np.int64)
        targets[firsts] += FIRST
        targets[firsts + np.maximum(examples.right, 0)] += RIGHT
        return replace(encoder.rows(*examples.pairs(), targets), together=examples.counts)

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

    def judge(self, logits: np.ndarray, examples: Choices, *, mistakes: int = 0) -> EvalResult:
        """Return accuracy and loss, a table by where the right choice stands, and the surest wrong answers."""
        said, shares, firsts = _chosen(logits, examples)
        truth = shares[firsts + examples.right]
        hit = said == examples.right
        figures = {"accuracy": float(hit.mean()), "loss": float(-np.log(np.maximum(truth, 1e-300)).mean())}
        wrong = np.flatnonzero(~hit)
        worst = wrong[np.argsort(truth[wrong], kind="stable")][:mistakes].tolist()
        return EvalResult(
            figures,
            _by_place(said, examples),
            [
                Mistake(
                    text=f"{examples.contexts[place]} | {examples.starts[place]}".removesuffix(" | "),
                    truth=examples.of(place)[examples.right[place]],
                    said=f"{examples.of(place)[said[place]]} ({shares[firsts[place] + said[place]]:.1%})",
                    error=float(1 - truth[place]),
                )
                for place in worst
            ],
        )

    def answers(self, logits: np.ndarray, examples: Choices) -> list[dict[str, Any]]:
        """Return for each question the likeliest choice, its place from 0, and the probability of every choice."""
        said, shares, firsts = _chosen(logits, examples)
        begun = zip(firsts.tolist(), examples.counts.tolist(), said.tolist(), strict=True)
        return [
            {
                "context": f"{examples.contexts[place]} {examples.starts[place]}".strip(),
                "choice": examples.choices[first + best],
                "place": best,
                "probability": float(shares[first + best]),
                "probabilities": shares[first : first + count].tolist(),
            }
            for place, (first, count, best) in enumerate(begun)
        ]


def _chosen(logits: np.ndarray, examples: Choices) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the likeliest choice [N] of each question, the probabilities [R] of all, and where questions begin."""
    firsts = np.cumsum(examples.counts) - examples.counts
    values = logits[:, 0].astype(np.float64)
    most = np.maximum.reduceat(values, firsts)
    raised = np.exp(values - np.repeat(most, examples.counts))
    shares = raised / np.repeat(np.add.reduceat(raised, firsts), examples.counts)
    question = np.repeat(np.arange(len(examples)), examples.counts)
    at = np.flatnonzero(values == most[question])
    _, first_of = np.unique(question[at], return_index=True)
    return at[first_of] - firsts, shares, firsts


def _by_place(said: np.ndarray, examples: Choices) -> ResultTable:
    """Return how often each place was right and was chosen: a model that sees only the place shows it here."""
    rows = [
        [
            str(place),
            f"{np.count_nonzero(here := examples.right == place):,}",
            f"{np.count_nonzero(said == place):,}",
            f"{(said[here] == place).mean():.4f}" if here.any() else "",
        ]
        for place in range(int(examples.counts.max()))
    ]
    return ResultTable("questions by the place of the right choice", ["place", "right", "chosen", "accuracy"], rows)
