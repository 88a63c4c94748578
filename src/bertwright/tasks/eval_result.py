"""What the evaluation of a task gives, and reports are made of: figures, a table of its own, the worst mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from bertwright.log import ResultTable

if TYPE_CHECKING:
    from bertwright.tasks.classification.calibration import Calibration

SAME_PREDICTION = "the model predicts a single class; train it longer, on more examples or at another learning rate"
SAME_LABEL = "the figures say little; give a file in which labels differ"


@dataclass(frozen=True)
class Mistake:
    """A wrong prediction: the text, its label, what was predicted, and how bad that is (larger is worse)."""

    text: str
    label: str
    prediction: str
    error: float


@dataclass(frozen=True)
class EvalResult:
    """How good predictions are: figures by name, a table of its own where a task has one, and the worst mistakes.

    The warning says why the figures are not what they seem, where all predictions are the same; the calibration how far
    the probabilities of classes are right, where there are some.
    """

    figures: dict[str, float]
    table: ResultTable | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    warning: str = ""
    calibration: Calibration | None = None


def worst_first(errors: np.ndarray, most: int) -> list[int]:
    """Return the places of the largest of `errors` [N] that are above 0, the worst first, `most` at most.

    >>> worst_first(np.array([0.0, 0.5, 2.0]), 5)
    [2, 1]
    """
    return [place for place in np.argsort(-errors, kind="stable")[:most].tolist() if errors[place] > 0]


def warning_of(names: Sequence[str], labels: np.ndarray, predictions: np.ndarray) -> str:
    """Return a warning where all labels or else all predictions, int64 [N] into `names`, are one; "" as a rule.

    >>> warning_of(["bad", "good"], np.array([0, 1]), np.array([1, 1]))
    "every prediction is 'good': the model predicts a single class; train it longer, on more examples or at another ..."
    """
    for classes, of, why in ((labels, "label", SAME_LABEL), (predictions, "prediction", SAME_PREDICTION)):
        if len(classes) > 1 and (classes == classes[0]).all():
            return f"every {of} is {names[classes[0]]!r}: {why}"
    return ""
