"""Turns labels and out-of-fold probabilities into the examples whose label is doubtful: confident learning."""

from __future__ import annotations

import numpy as np

SLACK = 1e-6
"""A probability so little below the threshold counts as at it."""


def doubtful_labels(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the places of labels [N] that are probably wrong, the least probable label first.

    `probabilities` [N, K] are those of models that have not seen the example. The threshold of a class is the mean
    probability of that class over the examples labelled so. An example is counted for the class whose threshold it
    reaches; of several, for its most probable class. It is doubtful where that is not its label, nor the label its most
    probable class: the off-diagonal of the confident joint of Northcutt et al. (2021), as cleanlab filters by it.

    >>> doubtful_labels(np.array([[0.8, 0.2], [0.2, 0.8], [0.3, 0.7], [0.9, 0.1]]), np.array([0, 1, 1, 1])).tolist()
    [3]
    """
    rows, classes = np.arange(len(labels)), probabilities.shape[1]
    of_label, most = probabilities[rows, labels], probabilities.argmax(-1)
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, of_label, minlength=classes)
    thresholds = np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)
    reached = probabilities >= thresholds - SLACK
    counted = np.where(reached.sum(-1) > 1, most, reached.argmax(-1))
    doubtful = reached.any(-1) & (counted != labels) & (most != labels)
    places = np.flatnonzero(doubtful)
    found: np.ndarray = places[np.argsort(of_label[places], kind="stable")]
    return found
