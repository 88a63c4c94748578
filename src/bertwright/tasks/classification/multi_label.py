"""Says which of some labels a text, or a pair of texts, has: none, one or several, each decided by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.cells import as_label
from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError, ModelError
from bertwright.log import ResultTable
from bertwright.tasks.base import TrainFile
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.classification.calibration import best_thresholds
from bertwright.tasks.classification.label_columns import LabelColumns, find_label_columns, note_labels, one_hot
from bertwright.tasks.classification.labels import note_case
from bertwright.tasks.classification.reader import Texts, looks_swapped, texts_of
from bertwright.tasks.classification.task import FEWEST, MOST_LABELS, natural
from bertwright.tasks.classification.whole_texts import WholeTexts, known_pairs
from bertwright.tasks.columns import KNOWN, ColumnsConfig
from bertwright.tasks.eval_result import SAME_PREDICTION, EvalResult, Mistake, worst_first
from bertwright.tasks.examples import split_dev
from bertwright.tasks.metrics import figures_by_label, logit, multi_label_figures, sigmoid
from bertwright.types import LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.task_model import Problem

FRACTIONS, COUNTS = ("precision", "recall", "f1"), ("labels", "predictions")
"""Columns of the table by label."""
THRESHOLDS = "thresholds"
"""Under this name a folder keeps the probability above which each label is given."""


def open_labels(path: Path, given: ColumnsConfig, *, known: Sequence[str] = ()) -> tuple[Table, LabelColumns]:
    """Return a table and its label columns, and say which they are; `known` are the labels of a trained model."""
    named = {name.strip() for name in (given.label or "").split(",")}
    table = read_table(path, names=KNOWN | set(known), given=given.names() | named, encoding=given.encoding)
    found = find_label_columns(table, given, known=known)
    note_labels(table, found)
    return table, found


@dataclass(frozen=True, eq=False)
class MultiLabel(WholeTexts):
    """Any number of labels a row: one sigmoid for each, and those above a threshold are given.

    thresholds  of each label [K], in the order of `labels`; one half where there are none
    """

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "f1_micro"
    metrics: ClassVar[tuple[str, ...]] = ("f1_micro", "f1_macro", "subset_accuracy", "loss")
    problem: ClassVar[Problem] = "multi_label_classification"
    number_type: ClassVar[type[np.generic]] = np.float32
    may_lack_target: ClassVar[bool] = True
    thresholds: np.ndarray | None = None

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Texts]]:
        """Return the task of a training table: every label that occurs in it."""
        path = file.path
        file.head.refuse("class_weights", "crf", "positive", "windows", task="classify with several labels a text")
        table, found = open_labels(path, file.columns)
        first, second, written = texts_of(table, found, may_lack_target=True)
        of_rows = found.labels_of(table)
        labels = list(map(as_label, found.flags)) or sorted({one for row in of_rows for one in row}, key=natural)
        if len(labels) < 2:
            only = f"only the label {labels[0]!r}" if labels else "no label"
            raise CorpusError(f"the column {found.target} of {path} has {only}; give examples of two labels or more")
        if looks_swapped(first, written) or len(labels) > min(MOST_LABELS, max(FEWEST, len(written))):
            raise CorpusError(
                f"the column {found.target} of {path} has {len(labels):,} different labels in {len(written):,} rows; "
                "are text and label columns swapped (--text-column, --label-column), or is --label-separator "
                f"not {found.separator!r}?"
            )
        note_case(path, labels)
        examples = Texts(path, first, second, one_hot(of_rows, labels, path=path))
        return cls(tuple(labels), found, second is not None), split_dev(examples, file.dev_fraction, labels=labels)

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model; raises ModelError where a threshold that it keeps is none."""
        kept = extra_config or {}
        task, given = cls(tuple(labels), pairs=known_pairs(kept)), kept.get(THRESHOLDS)
        return task if given is None else replace(task, thresholds=thresholds_of(given, labels))

    @property
    def extra_config(self) -> dict[str, Any]:
        """What a folder keeps: whether texts stand in pairs, and the thresholds."""
        return super().extra_config | self.tuned_settings

    @property
    def tuned_settings(self) -> dict[str, Any]:
        """The threshold of each label by its name."""
        if self.thresholds is None:
            return {}
        return {THRESHOLDS: dict(zip(self.labels, self.thresholds.tolist(), strict=True))}

    def tuned(self, logits: np.ndarray, examples: Texts) -> Self:
        """Return the task with the thresholds of the highest F1 on dev."""
        return replace(self, thresholds=best_thresholds(sigmoid(logits), examples.targets > 0))

    @property
    def cuts(self) -> np.ndarray | float:
        """The logits of the thresholds [K]; 0 where there are none."""
        return 0.0 if self.thresholds is None else logit(self.thresholds)

    def given(self, logits: np.ndarray) -> np.ndarray:
        """Return which labels are given, bool [N, K]."""
        chosen: np.ndarray = logits > self.cuts
        return chosen

    def open(self, path: Path, columns: ColumnsConfig) -> tuple[Table, LabelColumns]:
        """Return a table and its label columns."""
        return open_labels(path, columns, known=self.labels)

    def targets_of(self, table: Table, written: Sequence[str]) -> np.ndarray:
        """Return 1 for every label a row has and 0 for the others, float32 [N, K]."""
        assert isinstance(self.columns, LabelColumns)
        return one_hot(self.columns.labels_of(table), self.labels, path=table.path)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the binary cross-entropy (nats) of logits [B, 1, K], its mean over rows and labels."""
        logits, targets = scores.float(), example.targets
        from torch.nn import functional

        total = functional.binary_cross_entropy_with_logits(logits, targets)
        count = logits.new_full((), targets.numel())
        right = ((logits > 0) == (targets > 0)).sum()
        return Loss(total, {self.name: PartSums(total.detach() * count, count, right)}, count)

    def evaluate(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return F1 over all labels and its mean over them, how often all are right, and figures by label."""
        labels, predictions, probabilities = examples.targets > 0, self.given(logits), sigmoid(logits)
        rows = [
            [label, *(f"{one[name]:.4f}" for name in FRACTIONS), *(f"{one[name]:,.0f}" for name in COUNTS)]
            for label, one in zip(self.labels, figures_by_label(labels, predictions), strict=True)
        ]
        error = np.where(predictions != labels, np.abs(probabilities - labels), 0.0).sum(-1)
        return EvalResult(
            figures=multi_label_figures(labels, predictions, logits),
            table=ResultTable("figures by label", ["label", *FRACTIONS, *COUNTS], rows),
            mistakes=[
                Mistake(examples.shown(one), self._names(labels[one]), self._names(predictions[one]), float(error[one]))
                for one in worst_first(error, mistakes)
            ],
            warning=f"no label is given to any text: {SAME_PREDICTION}"
            if labels.any() and not predictions.any()
            else "",
        )

    def resampled(self, logits: np.ndarray, examples: Texts) -> Resampled:
        """Return what `evaluate` gives on any choice of texts."""
        labels, predictions = examples.targets > 0, self.given(logits)
        parts = [one.astype(np.float32) for one in (labels & predictions, labels, predictions)]
        whole = (labels == predictions).all(-1)
        nats = np.logaddexp(0.0, np.where(labels, -1.0, 1.0) * logits.astype(np.float64)).mean(-1)

        def figures(places: np.ndarray) -> dict[str, float]:
            times = np.bincount(places, minlength=len(labels)).astype(np.float32)
            right, there, given = (times @ part for part in parts)
            return {
                "f1_micro": float(2 * right.sum() / max(1.0, float((there + given).sum()))),
                "f1_macro": float((2 * right / np.maximum(there + given, 1)).mean()),
                "subset_accuracy": float(whole[places].mean()),
                "loss": float(nats[places].mean()),
            }

        return Resampled(len(labels), figures)

    def _names(self, chosen: np.ndarray) -> str:
        return ", ".join(self.labels[place] for place in np.flatnonzero(chosen)) or "nothing"

    def predictions(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the labels of each example whose probability is above the threshold, and every label's probability."""
        probabilities, given = sigmoid(logits), self.given(logits)
        return [
            {
                **examples.fields(place),
                "labels": [self.labels[label] for label in np.flatnonzero(given[place])],
                "probabilities": dict(zip(self.labels, probabilities[place].tolist(), strict=True)),
            }
            for place in range(len(examples))
        ]


def thresholds_of(given: Any, labels: Sequence[str]) -> np.ndarray:
    """Return the threshold of each label [K], from those that a folder keeps by name; raises ModelError."""
    values = [given.get(label) for label in labels] if isinstance(given, dict) else []
    if not values or not all(isinstance(value, int | float) and 0 <= value <= 1 for value in values):
        raise ModelError(
            f"{THRESHOLDS} in the config.json of this model should give each label a probability from 0 to 1; fix it"
        )
    return np.array(values, dtype=np.float64)
