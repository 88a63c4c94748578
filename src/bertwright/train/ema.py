"""Keeps a running mean of the weights, which lies lower in the valley than the weights that bounce along its walls.

An exponential mean forgets over a share of the run (Morales-Brotons et al., 2024, "Exponential Moving Average of
Weights in Deep Learning"); a tail mean weighs every step of the last share alike (Izmailov et al., 2018, "Averaging
Weights Leads to Wider Optima").
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from bertwright.config import Section

AVERAGE = "average_"
"""Begins the names of held-out figures of the averaged weights."""


class AverageConfig(Section):
    """Whether a mean of the weights is kept, and over what; a run exports the better of mean and raw weights."""

    name: Literal["none", "ema", "tail"] = "none"
    """none, ema (exponential) or tail (uniform over the end of the run)."""
    share: float = Field(default=0.05, gt=0, le=1)
    """Share of the run the exponential mean remembers, or the tail mean spans."""


class EMA:
    """The mean weights of a model, one tensor a parameter, on its device."""

    def __init__(self, model: nn.Module, config: AverageConfig) -> None:
        """Start from the weights of `model` as they are."""
        self.model, self.config = model, config
        self.weights: dict[str, Tensor] = {name: p.detach().clone() for name, p in model.named_parameters()}
        self.progress = 0.0
        self.count = 0

    @torch.no_grad()
    def update(self, progress: float) -> None:
        """Take in the weights after a step that brought the run to `progress`; one back leaves an exponential mean."""
        if self.config.name == "ema":
            weight = 1 - math.exp(-max(0.0, progress - self.progress) / self.config.share)
        else:
            self.count = self.count + 1 if progress >= 1 - self.config.share else 0
            weight = 1 / max(1, self.count)
        parameters = [p.detach() for p in self.model.parameters()]
        torch._foreach_lerp_(list(self.weights.values()), parameters, weight)
        self.progress = progress

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the mean weights into the model for a while."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the mean weights with those of the model."""
        for name, parameter in self.model.named_parameters():
            kept = parameter.detach().clone()
            parameter.copy_(self.weights[name])
            self.weights[name].copy_(kept)
