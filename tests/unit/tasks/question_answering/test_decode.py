"""Best spans of windows: the same as trying every span of every window one by one, and so are their probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bertwright.tasks.question_answering.decode import best_spans, span_mass
from bertwright.tasks.question_answering.windows import Passages, Windows, cut_windows

QUESTION = 4


def some_windows(random: np.random.Generator, contexts: list[int], *, length: int, stride: int) -> Windows:
    """Return windows of contexts of so many tokens, each token two characters wide, questions of QUESTION tokens."""
    counts = np.array(contexts)
    question, begin, size = cut_windows(counts, np.full(len(contexts), QUESTION), length=length, stride=stride)
    firsts = np.cumsum(counts) - counts
    within = np.concatenate([np.arange(count) for count in contexts])
    passages = Passages(np.zeros(counts.sum(), np.uint32), counts, 2 * within, 2 * within + 2, 2 * counts)
    places, counted = [], []
    for number, first, many in zip(question.tolist(), begin.tolist(), size.tolist(), strict=True):
        tokens = firsts[number] + np.arange(first, first + many)
        places.append(np.concatenate([np.full(QUESTION + 2, -1), tokens, [-1]]))
        counted.append(np.concatenate([np.zeros(QUESTION + 2), random.random(many) < 0.8, [0]]).astype(bool))
    lengths = size + QUESTION + 3
    return Windows(
        question=question,
        lengths=lengths,
        places=np.concatenate(places),
        counted=np.concatenate(counted),
        targets=np.zeros((len(lengths), 2), dtype=np.int64),
        passages=passages,
    )


def every_span(logits: np.ndarray, windows: Windows, question: int, *, longest: int) -> list[tuple[float, int, int]]:
    """Return (score, first token, last token) of every span that may answer a question."""
    found = []
    for row in np.flatnonzero(windows.question == question).tolist():
        begin, length = int(windows.begins[row]), int(windows.lengths[row])
        for first in range(begin + QUESTION + 2, begin + length - 1):
            for last in range(first, min(first + longest, begin + length - 1)):
                if windows.counted[first]:
                    score = float(logits[first, 0]) + float(logits[last, 1])
                    found.append((score, int(windows.places[first]), int(windows.places[last])))
    return found


@pytest.mark.parametrize("longest", [1, 3, 50])
def test_every_span_is_looked_at(longest: int) -> None:
    random = np.random.default_rng(longest)
    windows = some_windows(random, [30, 5, 17, 1], length=18, stride=4)
    logits = random.normal(size=(len(windows.places), 2)).astype(np.float32) * 3
    reading = best_spans(logits, windows, longest=longest)
    best = reading.best(1)[0]
    highest, mass = span_mass(logits, reading, longest=longest)
    for question in range(4):
        spans = every_span(logits, windows, question, longest=longest)
        if not spans:
            assert best.scores[question] == -math.inf
            continue
        score, first, last = max(spans)
        passages = windows.passages
        assert best.scores[question] == pytest.approx(score, abs=1e-5)
        assert best.characters[question].tolist() == [passages.begins[first], passages.ends[last]]
        share = math.exp(best.scores[question] - highest[question]) / mass[question]
        assert share == pytest.approx(math.exp(score) / sum(math.exp(one) for one, *_ in spans), rel=1e-4)
        rows = np.flatnonzero(windows.question == question)
        assert reading.null_scores[question] == pytest.approx(
            min(float(logits[windows.begins[row]].sum()) for row in rows)
        )


def test_next_best_spans_stand_elsewhere() -> None:
    random = np.random.default_rng(0)
    windows = some_windows(random, [30], length=24, stride=4)
    logits = random.normal(size=(len(windows.places), 2)).astype(np.float32)
    best = best_spans(logits, windows, longest=4).best(4)
    scores = [float(one.scores[0]) for one in best]
    assert scores == sorted(scores, reverse=True)
    taken: set[int] = set()
    for one in best:
        characters = set(range(*one.characters[0].tolist()))
        assert characters
        assert not characters & taken
        taken |= characters


def test_windows_of_equal_overlap() -> None:
    question, begin, size = cut_windows(np.array([5, 100]), np.array([10, 10]), length=43, stride=10)
    assert question.tolist() == [0, 1, 1, 1, 1, 1]
    assert begin.tolist() == [0, 0, 20, 40, 60, 80]
    assert size.tolist() == [5, 30, 30, 30, 30, 20]
