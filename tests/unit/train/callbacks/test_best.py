"""The best evaluation is kept, and waiting for a better one ends."""

from __future__ import annotations

import math

import torch
from torch import nn

from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.best import BestCallback
from bertwright.train.state import Progress


def evaluated(step: int, **valid: float) -> StepReport:
    notes = {"valid": valid} if valid else {}
    return StepReport(Progress(step=step), 0.5, 0, 1.0, last=False, notes=notes)


def test_the_weights_of_the_best_evaluation_come_back() -> None:
    model = nn.Linear(2, 1)
    callback = BestCallback(model, "f1", patience=2)
    for step, value in enumerate((0.1, 0.7, 0.7, None, 0.2), start=1):
        nn.init.constant_(model.weight, float(step))
        callback.on_step(evaluated(step) if value is None else evaluated(step, f1=value, loss=1.0))
        assert callback.exhausted == (step == 5)
    assert (callback.step, callback.figures["f1"]) == (2, 0.7)
    callback.load_best()
    assert torch.equal(model.weight, torch.full((1, 2), 2.0))


def test_of_equal_figures_the_lower_loss_is_better() -> None:
    callback = BestCallback(nn.Linear(1, 1), "f1")
    for step, loss in enumerate((0.9, 0.5, 0.7)):
        callback.on_step(evaluated(step, f1=0.0, loss=loss))
    assert (callback.step, callback.waited) == (1, 1)


def test_figures_that_are_no_numbers_are_never_the_best() -> None:
    callback = BestCallback(nn.Linear(1, 1), "f1")
    for step, value in enumerate((math.nan, 0.2, math.nan)):
        callback.on_step(evaluated(step, f1=value, loss=1.0))
    assert (callback.step, callback.figures["f1"], callback.waited) == (1, 0.2, 1)


def test_smaller_can_be_better() -> None:
    callback = BestCallback(nn.Linear(1, 1), "loss", sign=-1)
    for step, value in enumerate((2.0, 1.0, 3.0)):
        callback.on_step(evaluated(step, loss=value))
    assert callback.step == 1
    assert not callback.exhausted
