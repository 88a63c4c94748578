"""Says what the head of a task predicts, one class or several, and how much each class counts in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from bertwright.config import Section
from bertwright.errors import ConfigError
from bertwright.types import UNASKED, Loss, PartSums

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Weights = Literal["balanced"] | Mapping[str, float]
"""A weight for each class by its name, or "balanced": the rarer a class, the more it counts."""

WindowPooling = Literal["max", "mean", "attention"]
"""How the scores of the windows of a long text become one."""
WINDOWS: tuple[WindowPooling, ...] = ("max", "mean", "attention")
WINDOW_OVERLAP = 64
"""Tokens that two windows share, where nothing else is asked for."""

USES = {
    "multi_label": "for classify: several labels a text",
    "class_weights": "for classify, one label a text, and for tag",
    "crf": "for tag",
    "positive": "for classify of two classes, one label a text",
    "windows": "for classify, one label a text",
}


class HeadConfig(Section):
    """What the head of a task predicts, where it is not one class of a few, all alike."""

    multi_label: bool = False
    """classify: a text may have several labels at once, or none; sigmoids and binary cross-entropy."""
    class_weights: Literal["balanced"] | dict[str, float] | None = Field(default=None)
    """classify, tag: how much examples of each class count in the loss, by name, 1 where not named; or "balanced"."""
    positive: str | None = None
    """classify of two classes: the one whose F1 is reported; the second where not given."""
    windows: WindowPooling | None = None
    """classify: texts longer than a row are cut into windows, whose scores become one by max, mean or attention."""
    window_overlap: int = Field(default=WINDOW_OVERLAP, ge=0)
    """Tokens that two windows share."""
    crf: bool = False
    """tag: a conditional random field over the tags of a sentence, so that they follow one another as they may."""

    def refuse(self, *settings: str, task: str) -> None:
        """Raise ConfigError where one of `settings` is asked for: `task` has no use for it."""
        odd = next((name for name in settings if getattr(self, name)), None)
        if odd is not None:
            raise ConfigError(f"head.{odd}: {task} has no use for it; {odd.replace('_', ' ')} is {USES[odd]}")


def class_weights(wanted: Weights, targets: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Return the weight of each class, float32 [K]; `targets` [Q] are the classes of the training examples.

    "balanced" is Q / (classes that occur x examples of this one), as in scikit-learn (King and Zeng, 2001). Raises
    ConfigError where a name is none of `labels` or a weight is negative.

    >>> class_weights("balanced", np.array([0, 0, 0, 1]), ["no", "yes"])
    array([0.6666667, 2.       ], dtype=float32)
    """
    weights = np.ones(len(labels), dtype=np.float32)
    if wanted == "balanced":
        counts = np.bincount(targets, minlength=len(labels))
        there = counts > 0
        weights[there] = len(targets) / (np.count_nonzero(there) * counts[there])
        return weights
    assert not isinstance(wanted, str)
    for name, weight in wanted.items():
        if name not in labels:
            raise ConfigError(f"head.class_weights: there is no class {name!r}; known: {', '.join(labels[:20])}")
        if not 0 <= weight < np.inf:
            raise ConfigError(f"head.class_weights: {name!r} weighs {weight:g}; give 0 or more")
        weights[labels.index(name)] = weight
    if not weights.any():
        raise ConfigError("head.class_weights: every class weighs 0, so there is nothing to learn; give one a weight")
    return weights


def weights_on(device: torch.device, weights: np.ndarray) -> Tensor:
    """Return weights [K] as a tensor on a device, where they are kept: to send them at each step would be to wait."""
    return _sent(weights.astype(np.float32).tobytes(), device)


@lru_cache(maxsize=16)
def _sent(weights: bytes, device: torch.device) -> Tensor:
    import torch

    with torch.inference_mode(False):
        return torch.frombuffer(bytearray(weights), dtype=torch.float32).to(device)


def class_loss(scores: Tensor, targets: Tensor, *, name: str, weights: np.ndarray | None = None) -> Loss:
    """Return the mean cross-entropy (nats) of logits [B, M, K] where there are `targets` [B, M], and its part `name`.

    With `weights` [K] the mean is weighted by those of the targets, as torch's is; 0 where all of these are 0.
    """
    import torch
    from torch.nn import functional

    logits, flat = scores.float().flatten(0, 1), targets.flatten()
    mask = flat != UNASKED
    count = mask.sum()
    if weights is None:
        total, mass = functional.cross_entropy(logits, flat, ignore_index=UNASKED), count
    else:
        of_class = weights_on(logits.device, weights)
        mass = (of_class[flat.clamp(min=0)] * mask).sum()
        summed = functional.cross_entropy(logits, flat, weight=of_class, ignore_index=UNASKED, reduction="sum")
        total = summed / mass.clamp(min=torch.finfo(mass.dtype).tiny)
    correct = ((logits.argmax(-1) == flat) & mask).sum()
    return Loss(total, {name: PartSums(total.detach() * count, count, correct)}, mass)
