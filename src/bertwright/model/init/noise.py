"""Turns a new model into one with first weights as published: truncated normal matrices, biases of zero."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def draw_weights(module: nn.Module, *, std: float) -> None:
    """Draw every weight under `module` in place, from torch's default generator.

    Matrices and embeddings come from a normal of standard deviation `std` cut at two of them (Devlin 2018,
    `truncated_normal_initializer`); the cut makes the actual deviation 0.88 `std`.
    """
    for layer in module.modules():
        if isinstance(layer, nn.LayerNorm):
            nn.init.ones_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(layer.weight, std=std, a=-2 * std, b=2 * std)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            with torch.no_grad():
                parameter.zero_()


def sinusoids(count: int, width: int, *, rms: float) -> Tensor:
    """Return [count, width] position vectors: sines and cosines of geometric frequencies (Vaswani 2017, section 3.5).

    Scaled to a root mean square of `rms`. A fixed rotation takes the vector of one position to that of the next, so
    attention to neighbours can be learned as one matrix, for all positions at once.
    """
    return waves(count, torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width)), rms=rms)


def waves(count: int, speeds: Tensor, *, rms: float) -> Tensor:
    """Return [count, 2 D]: sine and cosine of each position at each of `speeds` [D] (radians a position), side by side.

    Scaled to a root mean square of `rms`: the squares of a sine and its cosine add up to one.
    """
    angles = torch.arange(count)[:, None] * speeds
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1) * (rms * math.sqrt(2))
