"""Says which of some classes a text, or a pair of texts, belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.cells import as_label
from bertwright.errors import ConfigError, CorpusError
from bertwright.tasks.classification.label_columns import refuse_flags
from bertwright.tasks.classification.labels import index_of, is_list, labels_in, note_case, note_combinations
from bertwright.tasks.classification.reader import Texts, another_table, looks_swapped, open_texts, texts_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import LABELS, Columns, ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake, ResultTable, remark_on
from bertwright.tasks.head import HeadConfig, class_weights
from bertwright.tasks.metrics import classification_figures, confusion, softmax
from bertwright.tasks.unlabelled import UnlabelledFile, unlabelled_texts
from bertwright.types import LabelledBatch, Loss

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.task_model import Problem

MOST_LABELS = 10_000
FEWEST = 50
"""So many labels are never too many, however few the rows."""
POSITIVE = "positive"
"""Under this name a folder keeps the class whose F1 is reported."""


class Classify(WholeTexts):
    """One class a row, by the softmax of its logits."""

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "f1_macro", "matthews", "loss")
    problem: ClassVar[Problem] = "single_label_classification"
    numbers = np.int64

    weights: np.ndarray | None = None
    """How much each class counts in the loss, [K]; all alike where there are none."""

    chosen: str | None = None
    """The class of two whose F1 is reported, where one was asked for."""

    def __init__(self, labels: Sequence[str], columns: Columns | None = None) -> None:
        """Hold the names of the classes, in the order of the head's outputs, and where to find them in a table."""
        self.labels, self.columns = tuple(labels), columns
        self.index = index_of(self.labels)

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, Texts]:
        """Return the task of a training table: its labels in order, numbers by size."""
        table, found = open_texts(path, columns, targets=LABELS)
        refuse_lists(path, table.columns[found.target])
        if found.target.strip().lower() not in LABELS:
            refuse_flags(table, columns)
        first, second, written = texts_of(table, found)
        labels = sorted(set(written), key=natural)
        if looks_swapped(first, written) or len(labels) > min(MOST_LABELS, max(FEWEST, len(written) // 2)):
            raise CorpusError(
                f"the column {found.target} of {path} has {len(labels):,} different values in {len(written):,} rows; "
                "are text and label columns swapped (--text-column, --label-column), or is this a task for `regress`?"
            )
        if len(labels) < 2:
            raise CorpusError(f"every row of {path} has the label {labels[0]!r}; give examples of two classes or more")
        note_case(path, labels)
        note_combinations(path, labels)
        task = cls(labels, found)
        task.pairs = second is not None
        return task, Texts(path, first, second, task.classes(path, written))

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls(labels)

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns of a table."""
        task = copy(self)
        task.columns = self.fitting(path, open_texts(path, columns, targets=LABELS)[1])
        return task

    def with_head(self, head: HeadConfig, examples: Texts) -> Self:
        """Return the task with the class weights asked for."""
        head.refuse("crf", task=self.name)
        task = self if head.positive is None else self.with_positive(head.positive)
        if head.class_weights is not None:
            task = copy(task)
            task.weights = class_weights(head.class_weights, examples.targets, self.labels)
        return task

    def with_positive(self, name: str) -> Self:
        """Return the task whose F1 is that of the class `name`; raises ConfigError where it is none of two."""
        name = next((label for label in self.labels if as_label(label) == as_label(name)), name)
        if name not in self.labels:
            raise ConfigError(f"--positive: there is no class {name!r}; known: {', '.join(self.labels[:20])}")
        if len(self.labels) != 2:
            raise ConfigError(
                f"head.positive: F1 has a positive class where there are two, and here are {len(self.labels):,}; "
                "leave --positive out, F1 is then the mean over all classes"
            )
        task = copy(self)
        task.chosen = name
        return task

    @property
    def positive(self) -> str | None:
        """The class whose F1 is reported: the one asked for, or the second of two."""
        return self.chosen or (self.labels[1] if len(self.labels) == 2 else None)

    @property
    def own(self) -> dict[str, Any]:
        """What a folder keeps: whether texts stand in pairs, and the positive class that was asked for."""
        return super().own | ({} if self.chosen is None else {POSITIVE: self.chosen})

    def with_saved_settings(self, own: Mapping[str, Any]) -> Self:
        """Return the task as a folder says that it was trained."""
        task = super().with_saved_settings(own)
        return task.with_positive(str(own[POSITIVE])) if POSITIVE in own else task

    def read(self, path: Path) -> Texts:
        """Return the examples of another table; raises CorpusError where one has a label the training file lacks."""
        assert self.columns is not None
        first, second, written = texts_of(another_table(path, self.columns), self.columns)
        return Texts(path, first, second, self.classes(path, written))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without labels as what is to be predicted; None where it has some."""
        assert self.columns is not None
        return unlabelled_texts(path, self.columns, known=self.index)

    def classes(self, path: Path, written: Sequence[str]) -> np.ndarray:
        """Return the class of each label as written, int64 [N]."""
        written = list(map(as_label, written))
        unknown = next((row for row, label in enumerate(written) if label not in self.index), None)
        if unknown is not None:
            known = ", ".join(self.labels[:20])
            raise CorpusError(
                f"{path} row {unknown + 1:,} (without the header) has the label {written[unknown][:60]!r}, which no "
                f"training example has; known: {known}"
            )
        return np.fromiter((self.index[label] for label in written), dtype=np.int64, count=len(written))

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy, in nats, weighted where classes have weights."""
        from bertwright.tasks.class_loss import class_loss

        return class_loss(scores, example.targets, name=self.name, weights=self.weights)

    def judge(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return accuracy, F1 and Matthews correlation, the confusion matrix, and the surest wrong answers."""
        said, shares = logits.argmax(-1), softmax(logits)
        matrix = confusion(examples.targets, said, classes=len(self.labels))
        rows = [
            [label, *(f"{count:,}" for count in row)] for label, row in zip(self.labels, matrix.tolist(), strict=True)
        ]
        wrong = np.flatnonzero(said != examples.targets)
        truth = shares[wrong, examples.targets[wrong]]
        worst = wrong[np.argsort(truth, kind="stable")][:mistakes].tolist()
        return EvalResult(
            figures=self._figures(examples.targets, said, logits),
            grid=ResultTable("true class (rows) and answer (columns)", ["", *self.labels], rows),
            mistakes=[
                Mistake(
                    text=examples.shown(place),
                    truth=self.labels[examples.targets[place]],
                    said=f"{self.labels[said[place]]} ({shares[place, said[place]]:.1%})",
                    error=1 - float(shares[place, examples.targets[place]]),
                )
                for place in worst
            ],
            warning=remark_on(self.labels, examples.targets, said),
        )

    def _figures(self, truth: np.ndarray, said: np.ndarray, logits: np.ndarray) -> dict[str, float]:
        positive = 1 if self.positive is None else self.index[as_label(self.positive)]
        return classification_figures(truth, said, logits, classes=len(self.labels), positive=positive)

    def answers(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the likeliest label of each example, its probability, and the probability of every label."""
        shares = softmax(logits)
        best = shares.argmax(-1)
        return [
            {
                **examples.asked(place),
                "label": self.labels[best[place]],
                "probability": float(shares[place, best[place]]),
                "probabilities": dict(zip(self.labels, shares[place].tolist(), strict=True)),
            }
            for place in range(len(examples))
        ]


def refuse_lists(path: Path, cells: Sequence[str]) -> None:
    """Raise CorpusError where labels are lists, empty ones too, as of a text that may have several."""
    held = [cell for cell in cells if as_label(cell)]
    if held and all(is_list(cell) and labels_in(cell, "|") is not None for cell in held):
        raise CorpusError(f"the labels of {path} are lists, such as {held[0][:60]!r}; give --multi-label")


def natural(label: str) -> tuple[int, float, str]:
    """Sort numbers by size, before everything else."""
    try:
        return 0, float(label), label
    except ValueError:
        return 1, 0.0, label
