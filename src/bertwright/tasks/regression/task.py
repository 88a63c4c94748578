"""Says how much of something a text, or a pair of texts, has: one score, such as how alike two sentences are."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.errors import CorpusError
from bertwright.tasks.classification.reader import Texts, another_table, numbers_of, open_texts, texts_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import SCORES, Columns, ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.metrics import regression_figures
from bertwright.tasks.unlabelled import UnlabelledFile, unlabelled_texts
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertwright.model.task_model import Problem


class Regress(WholeTexts):
    """One score a row: the only output of the head, trained on the squared error."""

    name: ClassVar[str] = "regress"
    metric: ClassVar[str] = "correlation"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "correlation", "mean_squared_error")
    problem: ClassVar[Problem] = "regression"
    numbers = np.float32

    def __init__(self, label: str, columns: Columns | None = None, *, middle: float = 0.0) -> None:
        """Hold the name of the score, where to find it in a table, and its mean over the training examples."""
        self.labels, self.columns, self.middle = (label,), columns, middle

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, Texts]:
        """Return the task of a training table."""
        table, found = open_texts(path, columns, targets=SCORES)
        first, second, written = texts_of(table, found)
        scores = numbers_of(path, written, column=found.target)
        if np.ptp(scores) == 0:
            raise CorpusError(f"every row of {path} has the score {written[0]}; give examples of different scores")
        task = cls(found.target, found, middle=float(scores.mean()))
        task.pairs = second is not None
        return task, Texts(path, first, second, scores)

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls(labels[0])

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns of a table."""
        task = copy(self)
        task.columns = self.fitting(path, open_texts(path, columns, targets=SCORES)[1])
        return task

    def read(self, path: Path) -> Texts:
        """Return the examples of another table."""
        assert self.columns is not None
        first, second, written = texts_of(another_table(path, self.columns), self.columns)
        return Texts(path, first, second, numbers_of(path, written, column=self.columns.target))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without scores as what is to be predicted; None where it has some."""
        assert self.columns is not None
        return unlabelled_texts(path, self.columns, known=("-1", "-1.0"))

    def with_head(self, head: HeadConfig, examples: Texts) -> Self:
        """Return the task with the mean score of the examples that are trained on."""
        task = copy(super().with_head(head, examples))
        task.middle = float(examples.targets.mean())
        return task

    def start_head(self, head: nn.Linear) -> None:
        """Start from the mean score, which a head that learns at 1e-5 a step would take the whole run to find."""
        head.bias.detach().fill_(self.middle)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean squared error."""
        errors = (scores.float().squeeze(-1) - example.targets).square()
        count = errors.new_full((), errors.numel())
        return Loss(errors.mean(), {self.name: PartSums(errors.detach().sum(), count)}, count)

    def judge(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return the correlations, the mean squared error, and the answers that are furthest off."""
        said, truth = logits[:, 0], examples.targets
        off = np.abs(said - truth)
        return EvalResult(
            figures=regression_figures(truth, said),
            mistakes=[
                Mistake(examples.shown(place), f"{truth[place]:.2f}", f"{said[place]:.2f}", float(off[place]))
                for place in np.argsort(-off, kind="stable")[:mistakes].tolist()
            ],
        )

    def answers(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the score of each example."""
        return [{**examples.asked(place), "score": score} for place, score in enumerate(logits[:, 0].tolist())]
