"""Turns lines of metrics.jsonl into the course of a run: arrays of its loss, smoothed, over steps, tokens and rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Lines = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""
SMOOTHED, FEWEST = 30, 3
"""The loss at a step is a mean over so many steps before it, and so many lines at least."""
PAIR_STEPS = 300
"""Steps that the accuracy of pairs is a mean over."""


@dataclass(frozen=True)
class Course:
    """A run of pre-training, a value a line that has the loss of masked tokens; [L] each.

    rates         the sum of the learning rates of all steps so far: how far Adam may have moved a weight
    losses        mean loss of masked tokens (nats), as the lines have it, and `smooth`, a mean over the steps before
    pairs         accuracy of next sentence prediction, a mean over PAIR_STEPS, and `pair_losses`; nan where unknown
    lengths       tokens in a row
    """

    steps: np.ndarray
    tokens: np.ndarray
    epochs: np.ndarray
    rates: np.ndarray
    losses: np.ndarray
    smooth: np.ndarray
    pairs: np.ndarray
    pair_losses: np.ndarray
    lengths: np.ndarray

    def first_below(self, level: float, values: np.ndarray | None = None) -> int | None:
        """Return the index of the first line whose smoothed loss is at most `level`; None where there is none."""
        found = np.flatnonzero((self.smooth if values is None else values) <= level)
        return int(found[0]) if len(found) else None


def course_of(lines: Lines) -> Course:
    """Return the course of a run from its lines; those that have no loss of masked tokens are left out.

    >>> lines = [{"step": s, "tokens": 100 * s, "mlm_loss": 7.0 - s, "learning_rate": 0.5} for s in (1, 2, 4)]
    >>> course = course_of(lines)
    >>> course.rates.tolist(), course.smooth.tolist()
    ([0.5, 1.0, 2.0], [6.0, 5.5, 4.666666666666667])
    """
    known = [line for line in lines if "mlm_loss" in line and "learning_rate" in line]

    def column(name: str) -> np.ndarray:
        return np.array([line.get(name, np.nan) for line in known], dtype=np.float64)

    steps, losses = column("step"), column("mlm_loss")
    made = np.diff(steps, prepend=0.0)
    return Course(
        steps=steps,
        tokens=column("tokens"),
        epochs=column("epochs"),
        rates=np.cumsum(made * column("learning_rate")),
        losses=losses,
        smooth=trailing_mean(losses, steps, SMOOTHED),
        pairs=trailing_mean(column("nsp_accuracy"), steps, PAIR_STEPS),
        pair_losses=trailing_mean(column("nsp_loss"), steps, PAIR_STEPS),
        lengths=column("length"),
    )


def trailing_mean(values: np.ndarray, steps: np.ndarray, span: int) -> np.ndarray:
    """Return for each line the mean of it and those before it, up to `span` steps back, FEWEST lines at least; [L]."""
    ends = np.arange(1, len(values) + 1)
    begins = np.minimum(np.searchsorted(steps, steps - span, side="right"), np.maximum(ends - FEWEST, 0))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: np.ndarray = (sums[ends] - sums[begins]) / (ends - begins)
    return means
