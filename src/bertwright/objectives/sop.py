"""Sentence order prediction: turns two logits a pair into a loss; 0 is "A, then B", 1 is "B, then A: swapped".

Both segments follow one another in one document, so that the subject does not give the answer away as it does for
next sentences. Source: Lan et al. (2020), "ALBERT", section 3.1. The pairs are drawn in `data`, half of them swapped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bertwright.objectives.base import Rows
from bertwright.objectives.nsp import PairObjective


@dataclass(frozen=True)
class SentenceOrderPrediction(PairObjective):
    """Whether the two segments of a row stand in the order of the text."""

    needs: ClassVar[Rows] = "ordered_pairs"
    what: ClassVar[str] = "sentence order prediction"
    part: ClassVar[str] = "sop"
    second: ClassVar[str] = "swapped"
    segments: ClassVar[str] = "ordered pairs"
