"""Averaged weights: both means by hand, and the exchange with the model's own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from bertwright.train.ema import EMA, AverageConfig


@pytest.fixture
def layer() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def walk(layer: nn.Linear, average: EMA, marks: list[float]) -> list[torch.Tensor]:
    """Add 1 to every weight and bring the run to each mark; return the weights after each step."""
    seen = []
    for mark in marks:
        with torch.no_grad():
            layer.weight.add_(1.0)
        average.update(mark)
        seen.append(layer.weight.detach().clone())
    return seen


def test_exponential_mean_forgets_by_progress(layer: nn.Linear) -> None:
    first = layer.weight.detach().clone()
    average = EMA(layer, AverageConfig(name="ema", share=0.1))
    second, third = walk(layer, average, [0.05, 0.25])
    expected = first * math.exp(-0.5) + second * (1 - math.exp(-0.5))
    expected = expected * math.exp(-2) + third * (1 - math.exp(-2))
    torch.testing.assert_close(average.weights["weight"], expected)


def test_an_exponential_mean_takes_no_step_back(layer: nn.Linear) -> None:
    average = EMA(layer, AverageConfig(name="ema", share=0.05))
    walk(layer, average, [0.8])
    before = average.weights["weight"].clone()
    _, last = walk(layer, average, [0.4, 0.5])
    torch.testing.assert_close(average.weights["weight"], before * math.exp(-2) + last * (1 - math.exp(-2)))


def test_tail_mean_is_that_of_the_last_share(layer: nn.Linear) -> None:
    average = EMA(layer, AverageConfig(name="tail", share=0.5))
    seen = walk(layer, average, [0.2, 0.4, 0.5, 0.8, 1.0])
    torch.testing.assert_close(average.weights["weight"], (seen[2] + seen[3] + seen[4]) / 3)


def test_in_place_and_back(layer: nn.Linear) -> None:
    average = EMA(layer, AverageConfig(name="tail", share=1.0))
    seen = walk(layer, average, [0.5, 1.0])
    with average.in_place():
        torch.testing.assert_close(layer.weight.detach(), (seen[0] + seen[1]) / 2)
    torch.testing.assert_close(layer.weight.detach(), seen[1], atol=0, rtol=0)
