"""Turns logits and labels of dev into what is set there: a temperature for one class a text, thresholds for several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertwright.tasks.metrics import log_probabilities, softmax

BINS = 15
"""Bins of equal width, as in Guo et al. (2017)."""
FEWEST_ROWS, FEWEST_WRONG = 100, 10
"""Rows, and wrong predictions among them, below which a temperature is a guess: where all are right the best is 0."""
HOTTEST = 20.0
"""Temperatures are looked for between this and its inverse."""
FEWEST_LABELS = 10
"""Rows with a label on dev, and without it, below which it has the threshold of all labels together."""


@dataclass(frozen=True)
class Reliability:
    """Predictions by their confidence, in bins that are not empty: how many, the mean confidence, how many are right.

    counts [b] int64    confidences [b] float64    accuracies [b] float64
    """

    counts: np.ndarray
    confidences: np.ndarray
    accuracies: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error (Naeini et al., 2015): mean distance of confidence and accuracy."""
        distances = np.abs(self.confidences - self.accuracies)
        return float((self.counts * distances).sum() / self.counts.sum())


@dataclass(frozen=True)
class Calibration:
    """The reliability of predictions before and after their logits are divided by a temperature."""

    temperature: float
    before: Reliability
    after: Reliability


def reliability(logits: np.ndarray, labels: np.ndarray) -> Reliability:
    """Return how reliable the most probable class of logits [N, K] is, against classes [N]."""
    probabilities = softmax(logits)
    best = probabilities.argmax(-1)
    confidence, right = probabilities[np.arange(len(best)), best], best == labels
    bins = np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)
    counts = np.bincount(bins, minlength=BINS)
    filled = np.flatnonzero(counts)
    sums = (np.bincount(bins, values.astype(np.float64), BINS)[filled] for values in (confidence, right))
    confidences, accuracies = (one / counts[filled] for one in sums)
    return Reliability(counts[filled], confidences, accuracies)


def calibration(logits: np.ndarray, labels: np.ndarray, *, temperature: float) -> Calibration:
    """Return the reliability of logits [N, K] as they are, and divided by a temperature."""
    return Calibration(temperature, reliability(logits, labels), reliability(logits / temperature, labels))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return what logits [N, K] are divided by for the lowest cross-entropy with classes [N] (Guo et al., 2017).

    1 where there are too few rows or mistakes to say.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(labels))
    if len(rows) < FEWEST_ROWS or np.count_nonzero(logits.argmax(-1) != labels) < FEWEST_WRONG:
        return 1.0
    values = logits.astype(np.float64)

    def nats(log_temperature: float) -> float:
        return -float(log_probabilities(values / np.exp(log_temperature))[rows, labels].mean())

    bounds = (-np.log(HOTTEST), np.log(HOTTEST))
    found = minimize_scalar(nats, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(np.exp(found.x))


def best_thresholds(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the threshold [K] above which each label is given for the highest F1; bool `labels` [N, K].

    Rare labels, of which dev says little, share the threshold of the highest F1 over all labels together.
    """
    joint = best_threshold_of_label(probabilities.ravel(), labels.ravel())
    counts = labels.sum(0)
    enough = np.minimum(counts, len(labels) - counts) >= FEWEST_LABELS
    return np.array(
        [
            best_threshold_of_label(probabilities[:, label], labels[:, label]) if enough[label] else joint
            for label in range(labels.shape[1])
        ]
    )


def best_threshold_of_label(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the threshold of the highest F1 of probabilities [N] and bool labels [N], halfway between two of them.

    One half where no row has the label.
    """
    if not labels.any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    given, hits = np.arange(1, len(order) + 1), np.cumsum(labels[order])
    f1 = 2 * hits / (given + hits[-1])
    sorted_down = np.append(probabilities[order], 0.0)
    parts = sorted_down[:-1] > sorted_down[1:]  # no threshold parts equal ones
    best = int(np.where(parts, f1, -1.0).argmax())
    return float(sorted_down[best : best + 2].mean())
