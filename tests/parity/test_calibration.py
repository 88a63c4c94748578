"""What is set on dev, against scikit-learn: a temperature, thresholds of labels, and how far off probabilities are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, precision_recall_curve

from bertwright.errors import ModelError
from bertwright.tasks.classification.calibration import (
    best_threshold_of_label,
    best_thresholds,
    fit_temperature,
    reliability,
)
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.metrics import sigmoid, softmax


class Logits(ClassifierMixin, BaseEstimator):
    """A classifier of scikit-learn whose features are its logits."""

    def __init__(self, classes: int = 2) -> None:
        self.classes = classes

    def fit(self, features: np.ndarray, labels: np.ndarray) -> Logits:
        self.classes_ = np.arange(self.classes)
        return self

    def decision_function(self, features: np.ndarray) -> np.ndarray:
        return features[:, 1] - features[:, 0] if self.classes == 2 else features

    def predict(self, features: np.ndarray) -> np.ndarray:
        return features.argmax(-1)


def drawn(classes: int, *, temperature: float, rows: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """Return logits, and classes drawn from their softmax at another temperature."""
    random = np.random.default_rng(classes)
    logits = random.normal(scale=3.0, size=(rows, classes)).astype(np.float32)
    noise = random.gumbel(size=logits.shape)
    return logits, (logits / temperature + noise).argmax(-1)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_the_temperature_is_that_of_scikit_learn(classes: int) -> None:
    logits, labels = drawn(classes, temperature=2.5)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(2.5, rel=0.15)
    base = FrozenEstimator(Logits(classes).fit(logits, labels))
    theirs = CalibratedClassifierCV(base, method="temperature").fit(logits, labels)
    np.testing.assert_allclose(softmax(logits / found), theirs.predict_proba(logits), atol=2e-4)


def test_the_calibration_error_is_that_of_the_curve_of_scikit_learn() -> None:
    logits, labels = drawn(4, temperature=2.0)
    probabilities = softmax(logits)
    confidence, right = probabilities.max(-1), probabilities.argmax(-1) == labels
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15)
    found = reliability(logits, labels)
    np.testing.assert_allclose(found.accuracies, accuracies)
    np.testing.assert_allclose(found.confidences, confidences)
    assert found.counts.sum() == len(labels)
    assert reliability(logits / 2.0, labels).error < 0.04 < found.error


def test_too_few_mistakes_give_no_temperature() -> None:
    logits, labels = drawn(3, temperature=2.0)
    assert fit_temperature(logits[:99], labels[:99]) == 1.0
    assert fit_temperature(logits, logits.argmax(-1)) == 1.0


def test_the_temperature_changes_probabilities_and_no_prediction() -> None:
    logits, labels = drawn(3, temperature=2.0)
    texts = Texts(Path("dev"), [str(row) for row in range(len(labels))], None, labels)
    task = Classify(("a", "b", "c"))
    tuned = task.tuned(logits, texts)
    before, after = task.evaluate(logits, texts), tuned.evaluate(logits, texts)
    assert after.figures["accuracy"] == before.figures["accuracy"]
    assert after.figures["loss"] < before.figures["loss"]
    assert after.figures["ece"] < before.figures["ece"] / 2
    assert after.calibration is not None
    assert before.calibration is not None
    assert after.calibration.before.error == before.figures["ece"]
    one = tuned.predictions(logits[:1], texts.take(np.arange(1)))[0]
    assert list(one["probabilities"].values()) == pytest.approx(softmax(logits[:1] / tuned.temperature)[0].tolist())


@pytest.mark.parametrize("rate", [0.02, 0.3, 0.8])
def test_the_threshold_has_the_best_f1_of_scikit_learn(rate: float) -> None:
    random = np.random.default_rng(int(rate * 100))
    labels = random.random(500) < rate
    probabilities = np.round(sigmoid(random.normal(size=500) + 2 * labels - 1), 2)  # many are equal
    threshold = best_threshold_of_label(probabilities, labels)
    precision, recall, _ = precision_recall_curve(labels, probabilities)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert f1_score(labels, probabilities > threshold) == pytest.approx(best, abs=1e-12)


def test_rare_labels_share_a_threshold() -> None:
    random = np.random.default_rng(0)
    labels = random.random((400, 3)) < (0.5, 0.2, 0.005)
    probabilities = sigmoid(random.normal(size=(400, 3)) + 2 * labels - 1)
    found = best_thresholds(probabilities, labels)
    assert found[0] == best_threshold_of_label(probabilities[:, 0], labels[:, 0])
    assert found[2] == best_threshold_of_label(probabilities.ravel(), labels.ravel())
    assert best_threshold_of_label(probabilities[:, 0], np.zeros(400, dtype=bool)) == 0.5


def test_thresholds_are_kept_and_used() -> None:
    random = np.random.default_rng(1)
    labels = random.random((300, 2)) < 0.3
    logits = (random.normal(size=labels.shape) + 3 * labels - 4).astype(np.float32)
    texts = Texts(Path("dev"), [str(row) for row in range(300)], None, labels.astype(np.float32))
    task = MultiLabel(("a", "b"))
    tuned = task.tuned(logits, texts)
    assert tuned.evaluate(logits, texts).figures["f1_micro"] > task.evaluate(logits, texts).figures["f1_micro"] + 0.2
    again = MultiLabel.from_labels(task.labels, tuned.extra_config)
    assert again.evaluate(logits, texts).figures == tuned.evaluate(logits, texts).figures
    given = [one["labels"] for one in again.predictions(logits, texts)]
    wanted = sigmoid(logits) > list(tuned.extra_config["thresholds"].values())
    assert given == [[name for name, there in zip(task.labels, row, strict=True) if there] for row in wanted]
    with pytest.raises(ModelError, match="thresholds"):
        MultiLabel.from_labels(task.labels, {"thresholds": {"a": 0.5}})
