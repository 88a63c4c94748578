"""Next sentence prediction: turns two logits a pair into a loss; 0 is "B continues A", 1 is "B is random".

Source: Devlin et al. 2018, section 3.1, task 2. There is nothing to hide: the pairs themselves are drawn in `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bertwright.errors import DataError, ModelError
from bertwright.objectives.base import FirstScores, NamedObjective, Rows, Vocabulary, unhidden
from bertwright.objectives.config import ObjectiveConfig
from bertwright.types import Batch, Loss, LossParts, MaskedBatch, PartSums, Scores


@dataclass(frozen=True)
class PairObjective(NamedObjective):
    """A question with two answers about the segments of a row, from the logits of the pair head; nothing is hidden."""

    hides: ClassVar[bool] = False
    what: ClassVar[str]
    """What it is called in messages."""
    part: ClassVar[str]
    """The name of its part of the loss."""
    second: ClassVar[str]
    """The name of its class 1."""
    segments: ClassVar[str]
    """The rows that it is given, in messages."""

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
            raise DataError(f"{self.what} was given rows of one segment; draw them with {self.segments}")
        if scores.nsp is None:
            raise ModelError(f"{self.what} needs a model with a next-sentence head; train masking alone")
        summed, parts = pair_sums(scores.nsp, example.next_label, part=self.part, second=self.second)
        return Loss(summed / example.divisors(example.masked_weights.sum())[1], parts)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return balanced accuracy and the share of the more frequent class (see `pair_figures`)."""
        return pair_figures(sums, part=self.part, second=self.second) if sums.get(f"{self.part}_count") else {}


@dataclass(frozen=True)
class NextSentencePrediction(PairObjective):
    """Whether the second segment of a row follows the first in the text."""

    needs: ClassVar[Rows] = "pairs"
    what: ClassVar[str] = "next sentence prediction"
    part: ClassVar[str] = "nsp"
    second: ClassVar[str] = "random"
    segments: ClassVar[str] = "rows of pairs"


def pair_sums(logits: Tensor, labels: Tensor, *, part: str = "nsp", second: str = "random") -> tuple[Tensor, LossParts]:
    """Return the summed loss (nats) of `logits` [B, 2] and `labels` [B], float32 whatever their type, and its parts.

    "nsp" are all pairs, "nsp_random" those of them whose B is random (label 1), which are only counted; `part` and
    `second` are other names for other questions about pairs.
    """
    scores = logits.float()
    correct = ((scores[:, 1] > scores[:, 0]).long() == labels).float()
    random = labels.float()
    summed = F.cross_entropy(scores, labels, reduction="sum")
    return summed, {
        part: PartSums(summed.detach(), random.new_full((), labels.shape[0]), correct.sum()),
        f"{part}_{second}": PartSums(None, random.sum(), (correct * random).sum()),
    }


def pair_figures(sums: Mapping[str, float], *, part: str = "nsp", second: str = "random") -> dict[str, float]:
    """Return how the more frequent class and both classes alike come out, from the sums of `pair_sums`, not empty.

    nsp_majority           share of the more frequent class: the accuracy of the best constant answer
    nsp_balanced_accuracy  mean of the recall of both classes, of one where there is no pair of the other; a constant
                           answer has 0.5 (Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior
                           Distribution")

    >>> pair_figures({"nsp_count": 10, "nsp_correct": 7, "nsp_random_count": 6, "nsp_random_correct": 6})
    {'nsp_balanced_accuracy': 0.625, 'nsp_majority': 0.6}
    """
    count, of_second = sums[f"{part}_count"], sums[f"{part}_{second}_count"]
    of_first, right = count - of_second, sums[f"{part}_{second}_correct"]
    both = (sums[f"{part}_correct"] - right, of_first), (right, of_second)
    recalls = [correct / whole for correct, whole in both if whole > 0]
    return {
        f"{part}_balanced_accuracy": round(sum(recalls) / len(recalls), 6),
        f"{part}_majority": round(max(of_first, of_second) / count, 6),
    }
