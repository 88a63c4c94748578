"""Exact match and F1 as the scripts of SQuAD and CMRC 2018 count them, on cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bertwright.tasks.question_answering.metrics import (
    best_threshold,
    character_exact,
    character_f1,
    characters,
    is_chinese,
    normalised,
    score_answers,
    word_exact,
    word_f1,
)


@pytest.mark.parametrize(
    ("predicted", "true", "exact", "f1"),
    [
        ("the Norman Conquest.", "Norman conquest", 1.0, 1.0),
        ("an apple a day", "apple day", 1.0, 1.0),
        ("in the 10th century", "10th century", 0.0, 0.8),
        ("theatre", "a theatre", 1.0, 1.0),
        ("U.S.", "US", 1.0, 1.0),
        ("well-known", "well known", 0.0, 0.0),
        ("to be to be", "to be", 0.0, 2 * (2 / 4) * (2 / 2) / (2 / 4 + 2 / 2)),
        ("London", "Paris", 0.0, 0.0),
        ("", "", 1.0, 1.0),
        ("the", "", 1.0, 1.0),
        ("Paris", "", 0.0, 0.0),
    ],
)
def test_words(predicted: str, true: str, exact: float, f1: float) -> None:
    assert word_exact(predicted, true) == exact
    assert word_f1(predicted, true) == pytest.approx(f1)


def test_articles_go_after_punctuation() -> None:
    """The order of the official script: "a-b" becomes "ab" before the article is looked for."""
    assert normalised("a-b  The\tcat's An") == "ab cats"


@pytest.mark.parametrize(
    ("predicted", "true", "exact", "f1"),
    [
        ("《任天堂》。", "任天堂", 1.0, 1.0),
        ("光荣", "光荣和ω-force", 0.0, 2 * 1.0 * (2 / 4) / (1.0 + 2 / 4)),
        ("1998年", "1998年", 1.0, 1.0),
        ("北京和上海", "北京与上海", 0.0, 2 * (2 / 5) / 2),
        ("WII 主机", "wii 主机", 1.0, 1.0),
        ("东京", "北海道", 0.0, 0.0),
    ],
)
def test_characters(predicted: str, true: str, exact: float, f1: float) -> None:
    assert character_exact(predicted, true) == exact
    assert character_f1(predicted, true) == pytest.approx(f1)


def test_a_run_is_unbroken() -> None:
    """What CMRC 2018 calls the longest common sequence may not have gaps."""
    assert characters("甲乙丙丁戊") == [*"甲乙丙丁戊"]
    assert character_f1("甲乙丙丁戊", "甲乙己丁戊") == pytest.approx(2 / 5)


def test_the_best_true_answer_counts() -> None:
    exact, f1 = score_answers(["Paris", "", "London"], [["Rome", "Paris France"], [], ["the"]])
    assert exact.tolist() == [0.0, 1.0, 0.0]
    assert f1.tolist() == pytest.approx([2 / 3, 1.0, 0.0])


def test_the_script_is_told_by_the_answers() -> None:
    assert is_chinese(["任天堂 Wii", "一九九八年"])
    assert not is_chinese(["Nintendo", "任天堂"])
    assert score_answers(["任天"], [["任天堂"]])[1].tolist() == pytest.approx([0.8])


def by_trying(scores: np.ndarray, doubts: np.ndarray, answerable: np.ndarray) -> float:
    """Return the best mean score over every threshold that can matter."""
    tried = [float(doubts.min()) - 1, *doubts.tolist()]
    return max(float(np.where(doubts > value, ~answerable, scores * answerable).mean()) for value in tried)


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_is_the_best_there_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    answerable = random.random(30) < 0.6
    scores = np.where(answerable, random.choice([0.0, 0.5, 1.0], 30), 0.0)
    doubts = random.integers(-4, 5, size=30).astype(float) - 2.0 * answerable
    found = best_threshold(scores, doubts, answerable)
    assert found.score == pytest.approx(by_trying(scores, doubts, answerable))
    said_nothing = doubts > found.value
    assert np.where(said_nothing, ~answerable, scores * answerable).mean() == pytest.approx(found.score)


def test_the_threshold_is_a_number_where_a_question_has_no_span() -> None:
    answerable = np.array([True, True, False])
    found = best_threshold(np.array([1.0, 0.0, 0.0]), np.array([-1.0, np.inf, np.inf]), answerable)
    assert found.score == pytest.approx(2 / 3)
    assert -1.0 < found.value < np.inf
    assert np.isfinite(best_threshold(np.zeros(1), np.array([np.inf]), np.array([False])).value)


def test_where_nothing_should_be_answered() -> None:
    found = best_threshold(np.zeros(3), np.array([2.0, -1.0, 0.0]), np.zeros(3, dtype=bool))
    assert found.score == 1.0
    assert found.value < -1.0
