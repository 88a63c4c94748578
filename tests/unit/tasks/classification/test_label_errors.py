"""Doubtful labels: the off-diagonal of the confident joint, counted example by example as the paper defines it."""

from __future__ import annotations

import numpy as np
import pytest

from bertwright.tasks.classification.label_errors import doubtful_labels


def by_definition(probabilities: np.ndarray, labels: np.ndarray) -> list[int]:
    """Count as Northcutt et al. (2021, equations 1 and 2) do, and filter as cleanlab's `confident_learning` does."""
    classes = probabilities.shape[1]
    thresholds = [probabilities[labels == one, one].mean() if (labels == one).any() else 9.0 for one in range(classes)]
    found = []
    for place, row in enumerate(probabilities):
        reached = [one for one in range(classes) if row[one] >= thresholds[one] - 1e-6]
        if not reached:
            continue
        counted = reached[0] if len(reached) == 1 else int(row.argmax())
        if counted != labels[place] and row.argmax() != labels[place]:
            found.append(place)
    return sorted(found, key=lambda place: probabilities[place, labels[place]])


@pytest.mark.parametrize("classes", [2, 4, 9])
def test_they_are_those_of_the_definition(classes: int) -> None:
    random = np.random.default_rng(classes)
    true = random.integers(0, classes, size=600)
    logits = random.normal(size=(600, classes)) + 3 * np.eye(classes)[true]
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.where(random.random(600) < 0.1, random.integers(0, classes - 1, size=600), true)
    found = doubtful_labels(probabilities, labels)
    assert found.tolist() == by_definition(probabilities, labels)
    wrong = np.flatnonzero(labels != true)
    assert len(np.intersect1d(found, wrong)) > 0.5 * len(wrong)


def test_a_class_nobody_has_is_no_suggestion_by_itself() -> None:
    probabilities = np.array([[0.6, 0.4, 0.0], [0.2, 0.7, 0.1], [0.1, 0.0, 0.9]])
    assert doubtful_labels(probabilities, np.array([0, 1, 0])).tolist() == []
