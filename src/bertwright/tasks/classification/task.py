"""Says which of some classes a text, or a pair of texts, belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.config import OneOf, Range
from bertwright.corpus.readers.cells import as_label
from bertwright.corpus.readers.table import Table
from bertwright.errors import ConfigError, CorpusError
from bertwright.log import ResultTable
from bertwright.tasks.base import TrainFile
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.classification.calibration import calibration, fit_temperature
from bertwright.tasks.classification.label_columns import refuse_flags
from bertwright.tasks.classification.label_errors import doubtful_labels
from bertwright.tasks.classification.labels import index_of, is_list, labels_in, note_case, note_combinations
from bertwright.tasks.classification.reader import Texts, looks_swapped, open_texts, texts_of
from bertwright.tasks.classification.whole_texts import WholeTexts, known_pairs
from bertwright.tasks.columns import LABELS, Columns, ColumnsConfig
from bertwright.tasks.eval_result import EvalResult, Mistake, warning_of
from bertwright.tasks.examples import split_dev
from bertwright.tasks.head import class_loss, class_weights
from bertwright.tasks.metrics import classification_figures, confusion, counted_figures, log_probabilities, softmax
from bertwright.types import LabelledBatch, Loss

if TYPE_CHECKING:
    from torch import Tensor

MOST_LABELS = 10_000
FEWEST = 50
"""So many labels are never too many, however few the rows."""
POSITIVE = "positive"
"""Under this name a folder keeps the class whose F1 is reported."""


@dataclass(frozen=True, eq=False)
class Classify(WholeTexts):
    """One class a row, by the softmax of its logits.

    weights          how much each class counts in the loss, float32 [K]; all alike where there are none
    chosen_positive  the class of two whose F1 is reported, where one was asked for
    temperature      what logits are divided by; 1 for a model read from a folder, whose logits are so already
    """

    name: ClassVar[str] = "classify"
    metric: ClassVar[str] = "accuracy"
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "f1", "f1_macro", "matthews", "loss", "ece")
    number_type: ClassVar[type[np.generic]] = np.int64
    space: ClassVar[Mapping[str, Range]] = {"head.class_weights": OneOf((None, "balanced"))}
    weights: np.ndarray | None = None
    chosen_positive: str | None = None
    temperature: float = 1.0

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Texts]]:
        """Return the task of a training table: its labels in order, numbers by size."""
        path, head = file.path, file.head
        head.refuse("crf", task=cls.name)
        table, found = open_texts(path, file.columns, targets=LABELS)
        refuse_lists(path, table.columns[found.target])
        if found.target.strip().lower() not in LABELS:
            refuse_flags(table, file.columns)
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
        examples = Texts(path, first, second, classes_of(path, written, labels))
        splits = split_dev(examples, file.dev_fraction, labels=labels)
        wanted = head.class_weights
        weights = None if wanted is None else class_weights(wanted, splits["train"].targets, labels)
        return cls(tuple(labels), found, second is not None, weights, positive_of(labels, head.positive)), splits

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model; raises ConfigError where its positive class is none of two."""
        kept = extra_config or {}
        positive = positive_of(labels, str(kept[POSITIVE])) if POSITIVE in kept else None
        return cls(tuple(labels), pairs=known_pairs(kept), chosen_positive=positive)

    @property
    def extra_config(self) -> dict[str, Any]:
        """What a folder keeps: whether texts stand in pairs, and the positive class that was asked for."""
        return super().extra_config | ({} if self.chosen_positive is None else {POSITIVE: self.chosen_positive})

    @property
    def positive(self) -> str | None:
        """The class whose F1 is reported: the one asked for, or the second of two."""
        return self.chosen_positive or (self.labels[1] if len(self.labels) == 2 else None)

    def open(self, path: Path, columns: ColumnsConfig) -> tuple[Table, Columns]:
        """Return a table and its columns."""
        return open_texts(path, columns, targets=LABELS)

    def targets_of(self, table: Table, written: Sequence[str]) -> np.ndarray:
        """Return the class of each row, int64 [N]."""
        return classes_of(table.path, written, self.labels)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy, in nats, weighted where classes have weights."""
        return class_loss(scores, example.targets, name=self.name, weights=self.weights)

    def constant_loss(self, examples: Texts) -> float | None:
        """Return the entropy of the classes; None where they have weights."""
        if self.weights is not None:
            return None
        counts = np.bincount(examples.targets, minlength=len(self.labels))
        shares = counts[counts > 0] / counts.sum()
        return float(-(shares * np.log(shares)).sum())

    def tuned(self, logits: np.ndarray, examples: Texts) -> Self:
        """Return the task with the temperature that is best on dev, where dev is large enough to say."""
        return replace(self, temperature=fit_temperature(logits, examples.targets))

    @property
    def divisors(self) -> np.ndarray:
        """The temperature, for each class."""
        return np.full(len(self.labels), self.temperature)

    @property
    def tuned_settings(self) -> dict[str, Any]:
        """The temperature, if there is one."""
        return {} if self.temperature == 1.0 else {"temperature": round(self.temperature, 6)}

    def evaluate(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return accuracy, F1 and Matthews correlation, the confusion matrix, and the surest wrong predictions."""
        sure = calibration(logits, examples.targets, temperature=self.temperature)
        logits = logits / self.temperature
        labels, predictions, probabilities = examples.targets, logits.argmax(-1), softmax(logits)
        matrix = confusion(labels, predictions, classes=len(self.labels))
        rows = [
            [label, *(f"{count:,}" for count in row)] for label, row in zip(self.labels, matrix.tolist(), strict=True)
        ]
        wrong = np.flatnonzero(predictions != labels)
        of_label = probabilities[wrong, labels[wrong]]
        worst = wrong[np.argsort(of_label, kind="stable")][:mistakes].tolist()
        positive = 1 if self.positive is None else self.labels.index(self.positive)
        figures = classification_figures(labels, predictions, logits, classes=len(self.labels), positive=positive)
        return EvalResult(
            figures={**figures, "ece": sure.after.error},
            table=ResultTable("label (rows) and prediction (columns)", ["", *self.labels], rows),
            mistakes=[
                Mistake(
                    text=examples.shown(place),
                    label=self.labels[labels[place]],
                    prediction=f"{self.labels[predictions[place]]} ({probabilities[place, predictions[place]]:.1%})",
                    error=1 - float(probabilities[place, labels[place]]),
                )
                for place in worst
            ],
            warning=warning_of(self.labels, labels, predictions),
            calibration=sure,
        )

    def resampled(self, logits: np.ndarray, examples: Texts) -> Resampled:
        """Return what `evaluate` gives, but the calibration error, on any choice of texts."""
        labels, predictions, classes = examples.targets, logits.argmax(-1), len(self.labels)
        nats = -log_probabilities(logits / self.temperature)[np.arange(len(labels)), labels]
        positive = 1 if self.positive is None else self.labels.index(self.positive)

        def figures(places: np.ndarray) -> dict[str, float]:
            found = counted_figures(labels[places], predictions[places], classes=classes, positive=positive)
            return {**found, "loss": float(nats[places].mean())}

        return Resampled(len(labels), figures)

    def suspects(self, logits: np.ndarray, examples: Texts) -> list[tuple[int, dict[str, Any]]]:
        """Return the examples whose label is doubtful, of out-of-fold logits: text, label, what is more probable."""
        probabilities = softmax(logits / self.temperature)
        best = probabilities.argmax(-1)
        return [
            (
                place,
                {
                    **examples.fields(place),
                    "label": self.labels[examples.targets[place]],
                    "suggested": self.labels[best[place]],
                    "probability_of_label": float(probabilities[place, examples.targets[place]]),
                    "probability_of_suggested": float(probabilities[place, best[place]]),
                },
            )
            for place in doubtful_labels(probabilities, examples.targets).tolist()
        ]

    def predictions(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the most probable label of each example, its probability, and the probability of every label."""
        probabilities = softmax(logits / self.temperature)
        best = probabilities.argmax(-1)
        return [
            {
                **examples.fields(place),
                "label": self.labels[best[place]],
                "probability": float(probabilities[place, best[place]]),
                "probabilities": dict(zip(self.labels, probabilities[place].tolist(), strict=True)),
            }
            for place in range(len(examples))
        ]


def classes_of(path: Path, written: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Return the class of each label as written, int64 [N]; raises CorpusError where one is none of `labels`."""
    index, names = index_of(labels), list(map(as_label, written))
    unknown = next((row for row, label in enumerate(names) if label not in index), None)
    if unknown is not None:
        raise CorpusError(
            f"{path} row {unknown + 1:,} (without the header) has the label {names[unknown][:60]!r}, which no "
            f"training example has; known: {', '.join(labels[:20])}"
        )
    return np.fromiter((index[label] for label in names), dtype=np.int64, count=len(names))


def positive_of(labels: Sequence[str], name: str | None) -> str | None:
    """Return the class `name` whose F1 is reported, as `labels` have it; raises ConfigError where it is none of two."""
    if name is None:
        return None
    found = next((label for label in labels if as_label(label) == as_label(name)), None)
    if found is None:
        raise ConfigError(f"--positive: there is no class {name!r}; known: {', '.join(labels[:20])}")
    if len(labels) != 2:
        raise ConfigError(
            f"head.positive: F1 has a positive class where there are two, and here are {len(labels):,}; "
            "leave --positive out, F1 is then the mean over all classes"
        )
    return found


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
