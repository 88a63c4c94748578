"""What judging a task gives: figures, a table of the task's own, and the worst mistakes; what reports are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

UNLEARNED = "the model tells nothing apart; train it longer, on more examples or at another rate, higher or lower"
UNTELLING = "the figures say little; give a file in which answers differ"


@dataclass(frozen=True)
class Mistake:
    """An answer that is wrong: the text, what was true, what was said, and how bad that is (larger is worse)."""

    text: str
    truth: str
    said: str
    error: float


@dataclass(frozen=True)
class ResultTable:
    """A table of a task's own: a confusion matrix, or figures by entity type."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class EvalResult:
    """How good answers are: figures by name, a table of its own where a task has one, and the worst mistakes.

    The remark says why the figures are not what they seem, where all answers are the same.
    """

    figures: dict[str, float]
    grid: ResultTable | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    warning: str = ""


def remark_on(names: Sequence[str], truth: np.ndarray, said: np.ndarray) -> str:
    """Return a remark where all true classes or else all answers, int64 [N] into `names`, are one; "" as a rule.

    >>> remark_on(["bad", "good"], np.array([0, 1]), np.array([1, 1]))
    "every answer is 'good': the model tells nothing apart; train it longer, on more examples or at another rate, ..."
    """
    for classes, of, so in ((truth, "true answer", UNTELLING), (said, "answer", UNLEARNED)):
        if len(classes) > 1 and (classes == classes[0]).all():
            return f"every {of} is {names[classes[0]]!r}: {so}"
    return ""
