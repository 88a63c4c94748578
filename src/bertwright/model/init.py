"""Draws the first weights of a model as published: truncated normal matrices, zero biases, identity LayerNorms."""

from __future__ import annotations

import torch
from torch import nn


def initialise(module: nn.Module, *, std: float) -> None:
    """Draw every weight under `module` in place, from torch's default generator.

    Matrices and embeddings come from a normal of standard deviation `std` cut at two of them (Devlin 2018,
    `truncated_normal_initializer`); the cut makes the actual deviation 0.88 `std`.
    """
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear | nn.Embedding):
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            with torch.no_grad():
                parameter.zero_()
