"""Says which of some labels a text, or a pair of texts, has: none, one or several, each decided by itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.errors import CorpusError
from bertwright.evaluate.judgement import UNLEARNED, Grid, Judgement, Mistake
from bertwright.evaluate.metrics import figures_by_label, multi_label_figures, sigmoid
from bertwright.tasks.classify import FEWEST, MOST_LABELS, natural
from bertwright.tasks.columns import LABELS, Columns, ColumnsConfig
from bertwright.tasks.contract import TaskLoss
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.texts import Texts, another_table, looks_swapped, open_texts, texts_of
from bertwright.tasks.whole_texts import WholeTexts
from bertwright.types import LabelledBatch

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.fine_tuned import Problem

SHARES, COUNTS = ("precision", "recall", "f1"), ("true", "said")
"""Columns of the table by label."""


@dataclass(frozen=True)
class LabelColumn:
    """Where the labels of a row stand, and what separates them there."""

    columns: Columns
    separator: str

    def cut(self, path: Path, cells: Sequence[str]) -> list[list[str]]:
        """Return the labels of each cell: a list as JSON writes it, or what stands between the separators."""
        return [self._cut(path, row, cell) for row, cell in enumerate(cells, start=1)]

    def _cut(self, path: Path, row: int, cell: str) -> list[str]:
        if not cell.lstrip().startswith("["):
            return [label.strip() for label in cell.split(self.separator) if label.strip()]
        try:
            return [str(label) for label in json.loads(cell)]
        except (ValueError, RecursionError) as error:
            raise CorpusError(
                f"{path} row {row:,} (without the header) has labels that begin as a list but are none: "
                f"{cell[:60]!r}; mend it"
            ) from error


class MultiLabel(WholeTexts):
    """Any number of labels a row: one sigmoid for each, and those above one half are given."""

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "f1_micro"
    metrics: ClassVar[tuple[str, ...]] = ("f1_micro", "f1_macro", "subset_accuracy", "loss")
    problem: ClassVar[Problem] = "multi_label_classification"
    numbers = np.float32

    def __init__(self, labels: Sequence[str], column: LabelColumn | None = None) -> None:
        """Hold the names of the labels, in the order of the head's outputs, and where to find them in a table."""
        self.labels, self.column = tuple(labels), column
        self.index = {label: place for place, label in enumerate(self.labels)}

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, Texts]:
        """Return the task of a training table: every label that occurs in it."""
        table, found = open_texts(path, columns, targets=LABELS)
        column = LabelColumn(found, columns.label_separator)
        first, second, written = texts_of(table, found, may_lack_target=True)
        cut = column.cut(path, written)
        labels = sorted({label for one in cut for label in one}, key=natural)
        if len(labels) < 2:
            only = f"only the label {labels[0]!r}" if labels else "no label"
            raise CorpusError(f"the column {found.target} of {path} has {only}; give examples of two labels or more")
        if looks_swapped(first, written) or len(labels) > min(MOST_LABELS, max(FEWEST, len(written))):
            raise CorpusError(
                f"the column {found.target} of {path} has {len(labels):,} different labels in {len(written):,} rows; "
                "are text and label columns swapped (--text-column, --label-column), or is --label-separator "
                f"not {columns.label_separator!r}?"
            )
        task = cls(labels, column)
        task.pairs = second is not None
        return task, Texts(path, first, second, task.marked(path, cut))

    @classmethod
    def of_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls(labels)

    def looking_at(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns of a table."""
        found = self.fitting(path, open_texts(path, columns, targets=LABELS)[1])
        task = copy(self)
        task.column = LabelColumn(found, columns.label_separator)
        return task

    def with_head(self, head: HeadConfig, examples: Texts) -> Self:
        """Return the task: several labels a row is all its head can be asked for."""
        head.refuse("class_weights", "crf", "positive", task="classify with several labels a text")
        return self

    def read(self, path: Path) -> Texts:
        """Return the examples of another table; raises CorpusError where one has a label the training file lacks."""
        assert self.column is not None
        columns = self.column.columns
        first, second, written = texts_of(another_table(path, columns), columns, may_lack_target=True)
        return Texts(path, first, second, self.marked(path, self.column.cut(path, written)))

    def marked(self, path: Path, cut: Sequence[Sequence[str]]) -> np.ndarray:
        """Return 1 for every label a row has and 0 for the others, float32 [N, K]."""
        places: list[tuple[int, int]] = []
        for row, labels in enumerate(cut):
            for label in labels:
                if label not in self.index:
                    raise CorpusError(
                        f"{path} row {row + 1:,} (without the header) has the label {label[:60]!r}, which no training "
                        f"example has; known: {', '.join(self.labels[:20])}"
                    )
                places.append((row, self.index[label]))
        targets = np.zeros((len(cut), len(self.labels)), dtype=np.float32)
        rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
        targets[rows, columns] = 1
        return targets

    def loss(self, scores: Tensor, example: LabelledBatch) -> TaskLoss:
        """Return the binary cross-entropy (nats) of logits [B, 1, K], its mean over rows and labels."""
        logits, targets = scores.float(), example.targets
        from torch.nn import functional

        total = functional.binary_cross_entropy_with_logits(logits, targets)
        count = logits.new_full((), targets.numel())
        right = ((logits > 0) == (targets > 0)).sum()
        sums = {"sum": total.detach() * count, "count": count, "correct": right}
        return TaskLoss(total, {f"{self.name}_{part}": value for part, value in sums.items()})

    def judge(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> Judgement:
        """Return F1 over all labels and its mean over them, how often all are right, and figures by label."""
        truth, said, shares = examples.targets > 0, logits > 0, sigmoid(logits)
        rows = [
            [label, *(f"{one[name]:.4f}" for name in SHARES), *(f"{one[name]:,.0f}" for name in COUNTS)]
            for label, one in zip(self.labels, figures_by_label(truth, said), strict=True)
        ]
        badness = np.where(said != truth, np.abs(shares - truth), 0.0).sum(-1)
        worst = [place for place in np.argsort(-badness, kind="stable")[:mistakes].tolist() if badness[place] > 0]
        return Judgement(
            figures=multi_label_figures(truth, said, logits),
            grid=Grid("figures by label", ["label", *SHARES, *COUNTS], rows),
            mistakes=[
                Mistake(examples.shown(place), self._told(truth[place]), self._told(said[place]), float(badness[place]))
                for place in worst
            ],
            remark=f"no label is given to any text: {UNLEARNED}" if truth.any() and not said.any() else "",
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
