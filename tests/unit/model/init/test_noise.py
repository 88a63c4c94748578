"""First weights: sinusoidal positions as published."""

from __future__ import annotations

import math

import pytest
import torch

from bertwright.model.init.noise import sinusoids


def test_sinusoids_are_the_published_ones_scaled() -> None:
    vectors = sinusoids(50, 8, rms=0.1)
    assert vectors.square().mean().sqrt().item() == pytest.approx(0.1, rel=1e-5)
    position, pair = 7, 2
    angle = position / 10_000 ** (2 * pair / 8)
    expected = torch.tensor([math.sin(angle), math.cos(angle)]) * 0.1 * math.sqrt(2)
    torch.testing.assert_close(vectors[position, 2 * pair : 2 * pair + 2], expected)
