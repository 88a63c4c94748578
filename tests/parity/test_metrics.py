"""Every figure of a task against the library the field counts with: scikit-learn, scipy, seqeval; to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics

from bertwright.tasks.metrics import classification_figures, confusion, regression_figures
from bertwright.tasks.tagging.metrics import compare, entities_of, tag_set


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes(classes: int) -> None:
    random = np.random.default_rng(classes)
    labels, logits = random.integers(classes, size=400), random.normal(size=(400, classes))
    predicted = logits.argmax(-1)
    figures = classification_figures(labels, predicted, logits, classes=classes)
    average = "binary" if classes == 2 else "macro"
    assert figures["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    assert figures["f1"] == sklearn.metrics.f1_score(labels, predicted, average=average)
    assert figures["f1_macro"] == sklearn.metrics.f1_score(labels, predicted, average="macro")
    assert figures["matthews"] == sklearn.metrics.matthews_corrcoef(labels, predicted)
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert figures["loss"] == pytest.approx(sklearn.metrics.log_loss(labels, shares), rel=1e-12)
    assert (
        confusion(labels, predicted, classes=classes).sum(1).tolist() == np.bincount(labels, minlength=classes).tolist()
    )


def test_a_class_nobody_gives_counts_as_zero() -> None:
    figures = classification_figures(np.array([0, 0, 0]), np.zeros(3, dtype=int), np.zeros((3, 2)), classes=2)
    assert (figures["accuracy"], figures["f1"], figures["matthews"]) == (1.0, 0.0, 0.0)


def test_scores() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 6, size=200).astype(np.float32)
    predicted = (labels + random.normal(size=200)).astype(np.float32)
    figures = regression_figures(labels, predicted)
    assert figures["pearson"] == scipy.stats.pearsonr(labels.astype(float), predicted.astype(float)).statistic
    assert figures["spearman"] == scipy.stats.spearmanr(labels, predicted).statistic
    assert figures["mean_squared_error"] == pytest.approx(
        sklearn.metrics.mean_squared_error(labels, predicted), rel=1e-6
    )
    assert regression_figures(labels, np.ones(200))["correlation"] == 0.0


@pytest.mark.parametrize("letters", ["BI", "BIES"])
@pytest.mark.parametrize("seed", range(20))
def test_entities_of_any_tags_even_broken_ones(letters: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    labels = ["O", *(f"{letter}-{kind}" for kind in ("LOC", "ORG", "PER") for letter in letters)]
    counts = random.integers(0, 9, size=60)
    references = random.choice(len(labels), p=spread(len(labels)), size=int(counts.sum()))
    predicted = np.where(
        random.random(len(references)) < 0.7, references, random.choice(len(labels), size=len(references))
    )
    tags = tag_set(labels)
    found = [entities_of(each, counts, tags) for each in (references, predicted)]
    whole, *each = compare(*found, words=len(references), types=len(tags.types))
    ends = np.cumsum(counts)[:-1]
    theirs = [[[labels[tag] for tag in part] for part in np.split(some, ends)] for some in (references, predicted)]
    assert whole.precision == seqeval.metrics.precision_score(*theirs)
    assert whole.recall == seqeval.metrics.recall_score(*theirs)
    assert whole.f1 == seqeval.metrics.f1_score(*theirs)
    report = seqeval.metrics.classification_report(*theirs, output_dict=True, zero_division=0)
    for kind, part in zip(tags.types, each, strict=True):
        assert (part.precision, part.recall, part.f1) == tuple(
            report[kind][n] for n in ("precision", "recall", "f1-score")
        )
        assert part.labels == report[kind]["support"]


def spread(count: int) -> list[float]:
    return [0.5, *([0.5 / (count - 1)] * (count - 1))]


def test_no_entities_at_all() -> None:
    tags = tag_set(["O", "B-A", "I-A"])
    nothing = entities_of(np.zeros(3, dtype=int), np.array([3]), tags)
    assert compare(nothing, nothing, words=3, types=1)[0].f1 == 0.0
    assert len(entities_of(np.zeros(0, dtype=int), np.array([0, 0]), tags).first) == 0
