"""Says how much of something a text, or a pair of texts, has: one score, such as how alike two sentences are."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.table import Table
from bertwright.errors import CorpusError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.classification.reader import Texts, numbers_of, open_texts, texts_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import SCORES, Columns, ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.examples import split_dev
from bertwright.tasks.metrics import regression_figures
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bertwright.model.task_model import Problem


@dataclass(frozen=True, eq=False)
class Regress(WholeTexts):
    """One score a row: the only output of the head, trained on the squared error.

    middle  the mean score of the examples that are trained on
    """

    name: ClassVar[str] = "regress"
    metric: ClassVar[str] = "correlation"
    metrics: ClassVar[tuple[str, ...]] = ("pearson", "spearman", "correlation", "mean_squared_error")
    problem: ClassVar[Problem] = "regression"
    number_type: ClassVar[type[np.generic]] = np.float32
    target_names: ClassVar[tuple[str, ...]] = SCORES
    known_cells: ClassVar[Collection[str]] = ("-1", "-1.0")
    """-1 is a score like any other."""
    middle: float = 0.0

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Texts]]:
        """Return the task of a training table."""
        file.head.refuse("multi_label", "class_weights", "crf", "positive", "windows", task=cls.name)
        table, found = open_texts(file.path, file.columns, targets=SCORES)
        first, second, written = texts_of(table, found)
        scores = numbers_of(file.path, written, column=found.target)
        if np.ptp(scores) == 0:
            raise CorpusError(f"every row of {file.path} has the score {written[0]}; give examples of different scores")
        splits = split_dev(Texts(file.path, first, second, scores), file.dev_fraction, labels=(found.target,))
        middle = float(splits["train"].targets.mean())
        return cls((found.target,), found, second is not None, middle), splits

    def open(self, path: Path, columns: ColumnsConfig) -> tuple[Table, Columns]:
        """Return a table and its columns."""
        return open_texts(path, columns, targets=SCORES)

    def targets_of(self, table: Table, written: Sequence[str]) -> np.ndarray:
        """Return the score of each row, float32 [N]."""
        assert self.columns is not None
        return numbers_of(table.path, written, column=self.columns.target)

    def init_head(self, head: nn.Linear) -> None:
        """Start from the mean score, which a head that learns at 1e-5 a step would take the whole run to find."""
        head.bias.detach().fill_(self.middle)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean squared error."""
        errors = (scores.float().squeeze(-1) - example.targets).square()
        count = errors.new_full((), errors.numel())
        return Loss(errors.mean(), {self.name: PartSums(errors.detach().sum(), count)}, count)

    def evaluate(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return the correlations, the mean squared error, and the predictions that are furthest off."""
        predictions, scores = logits[:, 0], examples.targets
        errors = np.abs(predictions - scores)
        return EvalResult(
            figures=regression_figures(scores, predictions),
            mistakes=[
                Mistake(
                    examples.shown(place), f"{scores[place]:.2f}", f"{predictions[place]:.2f}", float(errors[place])
                )
                for place in np.argsort(-errors, kind="stable")[:mistakes].tolist()
            ],
        )

    def resampled(self, logits: np.ndarray, examples: Texts) -> Resampled:
        """Return what `evaluate` gives on any choice of texts."""
        scores, predictions = examples.targets, logits[:, 0]
        return Resampled(len(scores), lambda places: regression_figures(scores[places], predictions[places]))

    def predictions(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the score of each example."""
        return [{**examples.fields(place), "score": score} for place, score in enumerate(logits[:, 0].tolist())]
