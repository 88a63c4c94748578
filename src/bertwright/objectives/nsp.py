"""Next sentence prediction: turns two logits a pair into loss and accuracy; 0 is "B continues A", 1 is "B is random".

Source: Devlin et al. 2018, section 3.1, task 2. There is nothing to hide: the pairs themselves are drawn in `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class PairSums:
    """Sums over the pairs of a batch, float32 scalars.

    loss            negative log-likelihood in nats;  correct: number of pairs predicted correctly
    random          number of pairs whose B is random (label 1);  random_correct: those of them predicted correctly
    """

    loss: Tensor
    correct: Tensor
    random: Tensor
    random_correct: Tensor


def next_sentence_sums(logits: Tensor, labels: Tensor) -> PairSums:
    """Return the sums for `logits` [B, 2] and `labels` [B], in float32 whatever the type of the logits."""
    scores = logits.float()
    correct = ((scores[:, 1] > scores[:, 0]).long() == labels).float()
    random = labels.float()
    return PairSums(
        loss=F.cross_entropy(scores, labels, reduction="sum"),
        correct=correct.sum(),
        random=random.sum(),
        random_correct=(correct * random).sum(),
    )


def pair_figures(sums: Mapping[str, float]) -> dict[str, float]:
    """Return how the commoner class and both classes alike come out, from "nsp_" sums over one pair or more.

    nsp_majority           share of the commoner class: the accuracy of the best constant answer
    nsp_balanced_accuracy  mean of the recall of both classes, of one where there is no pair of the other; a constant
                           answer has 0.5 (Brodersen et al. 2010, "The Balanced Accuracy and Its Posterior
                           Distribution")

    >>> pair_figures({"nsp_count": 10, "nsp_correct": 7, "nsp_random": 6, "nsp_random_correct": 6})
    {'nsp_balanced_accuracy': 0.625, 'nsp_majority': 0.6}
    """
    count, random = sums["nsp_count"], sums["nsp_random"]
    following, right = count - random, sums["nsp_random_correct"]
    recalls = [part / whole for part, whole in ((sums["nsp_correct"] - right, following), (right, random)) if whole > 0]
    return {
        "nsp_balanced_accuracy": round(sum(recalls) / len(recalls), 6),
        "nsp_majority": round(max(random, following) / count, 6),
    }
