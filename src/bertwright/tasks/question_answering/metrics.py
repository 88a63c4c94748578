"""Turns predicted and reference answers into exact match and F1, as the scripts of SQuAD and of CMRC 2018 count them.

SQuAD (Rajpurkar et al., 2016 and 2018): words, without case, punctuation and articles; CMRC 2018 (Cui et al., 2019):
single Chinese characters, and F1 from the longest run of them that both have. Of several references the best counts.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ARTICLES = re.compile(r"\b(a|an|the)\b")
NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
CHINESE = re.compile(r"[\u4e00-\u9fa5]")
CHINESE_SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
"""What CMRC 2018 takes for punctuation."""
PIECE = re.compile(r"[\u4e00-\u9fa5]|[^\W\u4e00-\u9fa5]+|\S")
"""A Chinese character, a run of other letters and digits, or a sign."""


def normalised(answer: str) -> str:
    """Return an answer in lower case without punctuation, articles and needless blanks.

    >>> normalised("The  Eiffel-Tower.")
    'eiffeltower'
    """
    return " ".join(ARTICLES.sub(" ", answer.lower().translate(NO_PUNCTUATION)).split())


def word_exact(prediction: str, reference: str) -> float:
    """Return 1 where two answers are the same once normalised, else 0."""
    return float(normalised(prediction) == normalised(reference))


def word_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the words two answers share; where one of them has none, 1 if neither has, else 0."""
    ours, theirs = normalised(prediction).split(), normalised(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1((Counter(ours) & Counter(theirs)).total(), len(ours), len(theirs))


def characters(answer: str) -> list[str]:
    """Return the Chinese characters of an answer, and what is between them as words, without Chinese punctuation.

    >>> characters("《任天堂》Wii 版")
    ['任', '天', '堂', 'wii', '版']
    """
    return PIECE.findall(_without_signs(answer))


def character_exact(prediction: str, reference: str) -> float:
    """Return 1 where two answers are the same without case and Chinese punctuation, else 0."""
    return float(_without_signs(prediction) == _without_signs(reference))


def character_f1(prediction: str, reference: str) -> float:
    """Return the F1 of the longest run of characters two answers share; 1 where neither has any."""
    ours, theirs = characters(prediction), characters(reference)
    if not ours or not theirs:
        return float(ours == theirs)
    return _f1(_longest_run(ours, theirs), len(ours), len(theirs))


def is_chinese(answers: Sequence[str]) -> bool:
    """Say whether most letters of some answers are Chinese characters, and they are scored as such."""
    text = "".join(answers)
    return 2 * len(CHINESE.findall(text)) > sum(map(str.isalpha, text))


def score_answers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """Return exact match [N] and F1 [N] of answers against the references of each question, the best one counting.

    No answer is the empty text, and a question without one has no references.
    """
    chinese = is_chinese([answer for answers in references for answer in answers])
    exact, f1 = (character_exact, character_f1) if chinese else (word_exact, word_f1)
    whole, partial = np.zeros(len(predictions)), np.zeros(len(predictions))
    for place, (ours, answers) in enumerate(zip(predictions, references, strict=True)):
        worthy = [answer for answer in answers if chinese or normalised(answer)] or [""]
        whole[place] = max(exact(ours, answer) for answer in worthy)
        partial[place] = max(f1(ours, answer) for answer in worthy)
    return whole, partial


@dataclass(frozen=True)
class Threshold:
    """Where to say that there is no answer: above `value`; and the mean score over all questions that this gives."""

    value: float
    score: float


def best_threshold(scores: np.ndarray, doubts: np.ndarray, answerable: np.ndarray) -> Threshold:
    """Return the threshold of the best mean score (Rajpurkar et al., 2018).

    `scores` [N] are those of the best span of each question; `doubts` [N] are no-answer score minus span score, and
    above the threshold nothing is answered: that is right, a score of 1, where `answerable` [N] is false. The threshold
    lies halfway between the doubts it parts, which serves questions not yet seen better than either of them.
    """
    finite = doubts[np.isfinite(doubts)]
    doubts = np.minimum(doubts, finite.max() + 2.0 if len(finite) else 0.0)  # no span at all is the largest doubt
    order = np.argsort(doubts, kind="stable")
    gains = np.where(answerable, scores, -1.0)[order]
    totals = np.count_nonzero(~answerable) + np.concatenate([[0.0], np.cumsum(gains)])
    sorted_doubts = doubts[order]
    possible = np.concatenate([[True], np.append(sorted_doubts[1:] > sorted_doubts[:-1], True)])
    best = int(np.argmax(np.where(possible, totals, -np.inf)))
    around = np.concatenate([[sorted_doubts[0] - 2.0], sorted_doubts, [sorted_doubts[-1] + 2.0]])
    return Threshold(float(around[best : best + 2].mean()), float(totals[best] / len(scores)))


def _f1(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs)


def _without_signs(answer: str) -> str:
    return "".join(character for character in answer.lower().strip() if character not in CHINESE_SIGNS)


def _longest_run(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest run of pieces that stands in both."""
    best, before = 0, [0] * (len(second) + 1)
    for piece in first:
        now = [0, *(before[place] + 1 if other == piece else 0 for place, other in enumerate(second))]
        best, before = max(best, *now), now
    return best
