"""Sentence order prediction: turns two logits a pair into a loss; 0 is "A, then B", 1 is "B, then A: swapped".

Both segments follow one another in one document, so that the subject does not give the answer away as it does for
next sentences. Source: Lan et al. (2020), "ALBERT", section 3.1. The pairs are drawn in `data`, half of them swapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch

from bertwright.errors import DataError, ModelError
from bertwright.objectives.base import FirstScores, NamedObjective, Rows, Vocabulary, unhidden
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.nsp import pair_figures, pair_sums
from bertwright.types import Batch, Loss, MaskedBatch, Scores

NAMES = {"part": "sop", "second": "swapped"}
"""Of its part of the loss, and of its second class."""


@dataclass(frozen=True)
class SentenceOrderPrediction(NamedObjective):
    """Whether the two segments of a row stand in the order of the text, from the logits of the pair head."""

    needs: ClassVar[Rows] = "ordered_pairs"
    hides: ClassVar[bool] = False

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective; it has no settings of its own."""
        return cls()

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch as it is."""
        return unhidden(batch)

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the pairs (nats), from logits [B, 2] and labels [B].

        Raises DataError where the rows are no pairs, and ModelError where the model has no head for them.
        """
        if example.next_label is None:
            raise DataError("sentence order prediction was given rows of one segment; draw them with ordered pairs")
        if scores.nsp is None:
            raise ModelError("sentence order prediction needs a model with a head for pairs; train masking alone")
        summed, parts = pair_sums(scores.nsp, example.next_label, **NAMES)
        return Loss(summed / example.divisors(example.masked_weights.sum())[1], parts)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return sop_balanced_accuracy and sop_majority (see `pair_figures`)."""
        return pair_figures(sums, **NAMES) if sums.get("sop_count") else {}
