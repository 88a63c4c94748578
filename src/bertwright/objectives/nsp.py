"""Next sentence prediction: marks the guesses at whether B continues A (label 0) or comes from elsewhere (label 1).

Source: Devlin et al. 2018, section 3.1, task 2. There is nothing to hide: the pairs themselves are drawn in `data`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairSums:
    """Sums over the pairs of a batch, float32 scalars: negative log-likelihood in nats, right guesses."""

    loss: Tensor
    correct: Tensor


def next_sentence_sums(logits: Tensor, labels: Tensor) -> PairSums:
    """Return the sums for `logits` [B, 2] and `labels` [B], in float32 whatever the type of the logits."""
    scores = logits.float()
    guesses = (scores[:, 1] > scores[:, 0]).long()
    return PairSums(loss=F.cross_entropy(scores, labels, reduction="sum"), correct=(guesses == labels).float().sum())
