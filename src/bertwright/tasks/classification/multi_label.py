"""Says which of some labels a text, or a pair of texts, has: none, one or several, each decided by itself."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.cells import as_label
from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError
from bertwright.tasks.classification.label_columns import LabelColumns, describe_labels, find_label_columns, marked_rows
from bertwright.tasks.classification.labels import index_of, note_case
from bertwright.tasks.classification.reader import Texts, another_table, looks_swapped, texts_of
from bertwright.tasks.classification.task import FEWEST, MOST_LABELS, natural
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import KNOWN, ColumnsConfig
from bertwright.tasks.eval_result import UNLEARNED, EvalResult, Mistake, ResultTable
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.metrics import figures_by_label, multi_label_figures, sigmoid
from bertwright.tasks.unlabelled import UnlabelledFile, unlabelled_texts
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.task_model import Problem

SHARES, COUNTS = ("precision", "recall", "f1"), ("true", "said")
"""Columns of the table by label."""


def open_labels(path: Path, given: ColumnsConfig, *, known: Sequence[str] = ()) -> tuple[Table, LabelColumns]:
    """Return a table and its label columns, and say which they are; `known` are the labels of a trained model."""
    named = {name.strip() for name in (given.label or "").split(",")}
    table = read_table(path, names=KNOWN | set(known), given=given.names() | named, encoding=given.encoding)
    found = find_label_columns(table, given, known=known)
    describe_labels(table, found)
    return table, found


class MultiLabel(WholeTexts):
    """Any number of labels a row: one sigmoid for each, and those above one half are given."""

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "f1_micro"
    metrics: ClassVar[tuple[str, ...]] = ("f1_micro", "f1_macro", "subset_accuracy", "loss")
    problem: ClassVar[Problem] = "multi_label_classification"
    numbers = np.float32

    def __init__(self, labels: Sequence[str], column: LabelColumns | None = None) -> None:
        """Hold the names of the labels, in the order of the head's outputs, and where to find them in a table."""
        self.labels, self.column = tuple(labels), column
        self.index = index_of(self.labels)

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, Texts]:
        """Return the task of a training table: every label that occurs in it."""
        table, column = open_labels(path, columns)
        found = column.columns
        first, second, written = texts_of(table, found, may_lack_target=True)
        cut = column.cut(table)
        labels = list(map(as_label, column.flags)) or sorted({label for one in cut for label in one}, key=natural)
        if len(labels) < 2:
            only = f"only the label {labels[0]!r}" if labels else "no label"
            raise CorpusError(f"the column {found.target} of {path} has {only}; give examples of two labels or more")
        if looks_swapped(first, written) or len(labels) > min(MOST_LABELS, max(FEWEST, len(written))):
            raise CorpusError(
                f"the column {found.target} of {path} has {len(labels):,} different labels in {len(written):,} rows; "
                "are text and label columns swapped (--text-column, --label-column), or is --label-separator "
                f"not {column.separator!r}?"
            )
        note_case(path, labels)
        task = cls(labels, column)
        task.pairs = second is not None
        return task, Texts(path, first, second, marked_rows(cut, task.index, path=path))

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls(labels)

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns of a table."""
        column = open_labels(path, columns, known=self.labels)[1]
        self.fitting(path, column.columns)
        task = copy(self)
        task.column = column
        return task

    def with_head(self, head: HeadConfig, examples: Texts) -> Self:
        """Return the task: several labels a row is all its head can be asked for."""
        head.refuse("class_weights", "crf", "positive", task="classify with several labels a text")
        return self

    def read(self, path: Path) -> Texts:
        """Return the examples of another table; raises CorpusError where one has a label the training file lacks."""
        assert self.column is not None
        table = another_table(path, self.column.columns)
        first, second, _ = texts_of(table, self.column.columns, may_lack_target=True)
        return Texts(path, first, second, marked_rows(self.column.cut(table), self.index, path=path))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without labels as what is to be predicted; None where it has some."""
        assert self.column is not None
        return unlabelled_texts(path, self.column.columns, targets=self.column.flags, known=self.index)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the binary cross-entropy (nats) of logits [B, 1, K], its mean over rows and labels."""
        logits, targets = scores.float(), example.targets
        from torch.nn import functional

        total = functional.binary_cross_entropy_with_logits(logits, targets)
        count = logits.new_full((), targets.numel())
        right = ((logits > 0) == (targets > 0)).sum()
        return Loss(total, {self.name: PartSums(total.detach() * count, count, right)}, count)

    def judge(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return F1 over all labels and its mean over them, how often all are right, and figures by label."""
        truth, said, shares = examples.targets > 0, logits > 0, sigmoid(logits)
        rows = [
            [label, *(f"{one[name]:.4f}" for name in SHARES), *(f"{one[name]:,.0f}" for name in COUNTS)]
            for label, one in zip(self.labels, figures_by_label(truth, said), strict=True)
        ]
        error = np.where(said != truth, np.abs(shares - truth), 0.0).sum(-1)
        worst = [place for place in np.argsort(-error, kind="stable")[:mistakes].tolist() if error[place] > 0]
        return EvalResult(
            figures=multi_label_figures(truth, said, logits),
            grid=ResultTable("figures by label", ["label", *SHARES, *COUNTS], rows),
            mistakes=[
                Mistake(examples.shown(place), self._told(truth[place]), self._told(said[place]), float(error[place]))
                for place in worst
            ],
            warning=f"no label is given to any text: {UNLEARNED}" if truth.any() and not said.any() else "",
        )

    def _told(self, marked: np.ndarray) -> str:
        return ", ".join(self.labels[place] for place in np.flatnonzero(marked)) or "nothing"

    def answers(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the labels of each example whose probability is above one half, and the probability of every label."""
        shares = sigmoid(logits)
        return [
            {
                **examples.asked(place),
                "labels": [self.labels[label] for label in np.flatnonzero(logits[place] > 0)],
                "probabilities": dict(zip(self.labels, shares[place].tolist(), strict=True)),
            }
            for place in range(len(examples))
        ]
