"""Turns logits and classes into a loss: the one that classifying rows and tagging words share."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertwright.types import UNASKED, Loss, PartSums


def class_loss(scores: Tensor, targets: Tensor, *, name: str, weights: np.ndarray | None = None) -> Loss:
    """Return the mean cross-entropy (nats) of logits [B, M, K] where there are `targets` [B, M], and its sums as part `name`.

    With `weights` [K] the mean is weighted by those of the targets, as torch's is; 0 where all of these are 0.
    """
    logits, flat = scores.float().flatten(0, 1), targets.flatten()
    mask = flat != UNASKED
    count = mask.sum()
    if weights is None:
        total, mass = functional.cross_entropy(logits, flat, ignore_index=UNASKED), count
    else:
        of_class = torch.from_numpy(weights).to(logits.device)
        mass = (of_class[flat.clamp(min=0)] * mask).sum()
        summed = functional.cross_entropy(logits, flat, weight=of_class, ignore_index=UNASKED, reduction="sum")
        total = summed / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    correct = ((logits.argmax(-1) == flat) & mask).sum()
    return Loss(total, {name: PartSums(total.detach() * count, count, correct)}, mass)
