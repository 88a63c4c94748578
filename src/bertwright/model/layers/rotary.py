"""Turns positions into angles that queries and keys are rotated by, so that their products see distances (Su 2021)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_angles(count: int, width: int, *, theta: float) -> Tensor:
    """Return [2, count, 2, width / 2] float32: cosines and signed sines of `count` positions for heads of `width`.

    Unit i of the first half is paired with unit i of the second, as in GPT-NeoX and ModernBERT; pair i turns by
    theta^(-2 i / width) a position. The sines of the first half are negative, so that a rotation is one multiply and
    add of a vector and its swapped halves.
    """
    frequencies = theta ** (-torch.arange(0, width, 2, dtype=torch.float32) / width)
    angles = torch.arange(count, dtype=torch.float32)[:, None] * frequencies
    cosines, sines = angles.cos(), angles.sin()
    return torch.stack([torch.stack([cosines, cosines], 1), torch.stack([-sines, sines], 1)])


def rotate(vectors: Tensor, angles: Tensor) -> Tensor:
    """Return `vectors` [B, A, S, D] (queries or keys) rotated by `angles` [2, S, 2, D / 2], computed in float32."""
    cosines, sines = angles
    halves = vectors.view(*vectors.shape[:-1], *cosines.shape[-2:]).float()
    rotated: Tensor = halves * cosines + halves.flip(-2) * sines
    return rotated.flatten(-2).to(vectors.dtype)
