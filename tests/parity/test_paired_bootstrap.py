"""Two models on the same examples: intervals as scipy's bootstrap has them, a p that is right where nothing differs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bertwright.tasks.bootstrap import means, paired_bootstrap
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.embedding.reader import Sentences
from bertwright.tasks.embedding.task import evaluate_vectors, resampled_vectors
from bertwright.tasks.multiple_choice.reader import Choices
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.ranking.reader import Passages
from bertwright.tasks.ranking.task import Rank
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.reader import TaggedSentences
from bertwright.tasks.tagging.task import Tag

FILE = Path("test")


def classes(random: np.random.Generator, labels: int) -> tuple[Any, np.ndarray, Any]:
    names = tuple("abcdefgh"[:labels])
    logits = random.normal(size=(200, labels))
    return Classify(names), logits, Texts(FILE, [""] * 200, None, random.integers(0, labels - 1, size=200))


def several(random: np.random.Generator) -> tuple[Any, np.ndarray, Any]:
    targets = (random.random((150, 4)) < (0.5, 0.2, 0.01, 0.0)).astype(np.float32)
    task = MultiLabel(tuple("abcd"), thresholds=np.array([0.5, 0.3, 0.9, 0.6]))
    return task, random.normal(size=(150, 4)) + targets, Texts(FILE, [""] * 150, None, targets)


def scores(random: np.random.Generator) -> tuple[Any, np.ndarray, Any]:
    targets = random.integers(0, 5, size=120).astype(np.float32)
    return Regress(("score",)), targets[:, None] + random.normal(size=(120, 1)), Texts(FILE, [""] * 120, None, targets)


def tags(random: np.random.Generator, labels: tuple[str, ...]) -> tuple[Any, np.ndarray, Any]:
    counts = random.integers(1, 9, size=60)
    targets = random.integers(0, len(labels), size=int(counts.sum()))
    logits = random.normal(size=(len(targets), len(labels))) + 2 * np.eye(len(labels))[targets]
    return Tag(labels), logits, TaggedSentences(FILE, ["w"] * len(targets), counts, targets)


def choices(random: np.random.Generator) -> tuple[Any, np.ndarray, Any]:
    counts = random.integers(2, 5, size=80)
    right, texts = random.integers(0, counts), ["x"] * int(counts.sum())
    examples = Choices(FILE, [""] * 80, [""] * 80, texts, counts, right)
    return Choose(), random.normal(size=(len(texts), 1)), examples


def passages(random: np.random.Generator) -> tuple[Any, np.ndarray, Any]:
    queries = [f"query {number}" for number in random.integers(0, 30, size=200)]
    grades = random.integers(0, 3, size=200).astype(np.float32)
    return Rank(("rank",), top=2.0), random.normal(size=(200, 1)), Passages(FILE, queries, [""] * 200, grades)


MADE: dict[str, Callable[[np.random.Generator], tuple[Any, np.ndarray, Any]]] = {
    "two classes": lambda random: classes(random, 2),
    "five classes, one of them nobody's": lambda random: classes(random, 5),
    "labels": several,
    "scores": scores,
    "entities": lambda random: tags(random, ("O", "B-X", "I-X", "B-Y", "I-Y")),
    "plain tags": lambda random: tags(random, ("NOUN", "VERB", "DET")),
    "choices": choices,
    "passages": passages,
}


@pytest.mark.parametrize("kind", MADE)
def test_figures_of_all_units_are_those_of_the_evaluation(kind: str) -> None:
    random = np.random.default_rng(len(kind))
    task, logits, examples = MADE[kind](random)
    resampled, wanted = task.resampled(logits, examples), task.evaluate(logits, examples).figures
    found = resampled.figures(np.arange(resampled.units))
    assert set(found) >= {task.metric}
    assert found == pytest.approx({name: wanted[name] for name in found}, abs=1e-6)
    places = random.integers(resampled.units, size=resampled.units)
    if kind != "passages":  # of which the same query twice would be one
        again = examples.take(places)
        rows = np.arange(len(logits))
        if kind in ("entities", "plain tags", "choices"):
            ends = np.cumsum(examples.counts)
            rows = np.concatenate([np.arange(ends[one] - examples.counts[one], ends[one]) for one in places])
        else:
            rows = places
        wanted = task.evaluate(logits[rows], again).figures
        assert resampled.figures(places) == pytest.approx({name: wanted[name] for name in found}, abs=1e-6)


@pytest.mark.parametrize("scored", [False, True])
def test_figures_of_vectors(scored: bool) -> None:
    random = np.random.default_rng(0)
    members = random.integers(0, 40, size=(60, 2))
    texts = [str(number) for number in range(40)]
    examples = Sentences(FILE, texts, members, random.random(60).astype(np.float32) if scored else None)
    vectors = random.normal(size=(40, 8)).astype(np.float32)
    resampled = resampled_vectors(vectors, examples)
    wanted = evaluate_vectors(vectors, examples).figures
    assert resampled.figures(np.arange(resampled.units)) == pytest.approx(wanted, abs=1e-9)


def test_the_interval_is_that_of_scipy() -> None:
    random = np.random.default_rng(3)
    first = random.random(300)
    second = first * 0.5 + random.random(300) * 0.5 - 0.02
    ours = paired_bootstrap(means({"figure": first}), means({"figure": second}), resamples=4000)["figure"]
    theirs = stats.bootstrap(
        (first, second),
        lambda a, b, axis=-1: a.mean(axis) - b.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(0),
    )
    assert ours.value == pytest.approx(first.mean() - second.mean())
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.05 * width)


def test_p_is_small_where_models_differ_and_even_where_they_do_not() -> None:
    """Of 200 pairs without a difference a p under 0.1 should come up 20 times; 8 to 34 are 3.4 deviations around it."""
    random = np.random.default_rng(4)
    found = []
    for _ in range(200):
        first, second = (random.random(80) for _ in range(2))
        one = paired_bootstrap(means({"figure": first}), means({"figure": second}), resamples=199)["figure"]
        found.append(one.p)
    assert 8 <= np.count_nonzero(np.array(found) < 0.1) <= 34
    first = random.normal(size=60)
    second = first - 0.3 + random.normal(size=60, scale=0.8)
    one = paired_bootstrap(means({"figure": first}), means({"figure": second}), resamples=9999)["figure"]
    assert one.p == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=0.6, abs=1e-3)
    same = paired_bootstrap(means({"figure": first}), means({"figure": first}), resamples=99)["figure"]
    assert (same.value, same.p) == (0.0, 1.0)
    with pytest.raises(ValueError, match="paired"):
        paired_bootstrap(means({"figure": first}), means({"figure": first[1:]}))
