"""Batches without a finite loss are left out, a loss that bursts sends the run back, and neither goes on for ever."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from bertwright.errors import NotFiniteError, TrainingError
from bertwright.train.checkpoint.snapshot import TrainState
from bertwright.train.loop import Progress, StepReport
from bertwright.train.loss_guard import SETTLED, GuardConfig, LossSpikeGuard

LOSSES = Iterator[float]


def begun(**settings: float) -> LossSpikeGuard:
    """A guard over a model whose weight counts the steps made."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    moving = TrainState(model, [torch.optim.AdamW(model.parameters())], Progress(drawn=[0]))
    return LossSpikeGuard(GuardConfig.model_validate(settings), moving)


@torch.no_grad()
def live(guard: LossSpikeGuard, loss_of: Callable[[int], float], *, draws: int) -> None:
    """Make a step with each batch, its loss given by its number; nan fails."""
    position, (weight,) = guard.moving.position, guard.moving.model.parameters()
    while position.drawn[0] < draws:
        loss = loss_of(position.drawn[0])
        position.drawn[0] += 1
        if math.isnan(loss):
            guard.failed(NotFiniteError(f"at step {position.step} the loss is nan"))
            continue
        position.step += 1
        weight += 1
        if guard.passed(loss, phase=0):
            guard(StepReport(position, 0.5, 0, 1.0, last=False))
        assert weight.item() == position.step


def test_a_batch_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    guard = begun()
    live(guard, lambda t: math.nan if t == 20 else 5.0, draws=60)
    position = guard.moving.position
    assert (position.step, position.skipped, position.attempts) == (59, 1, 0)
    assert re.fullmatch("at step 20 the loss is nan.*\n", capsys.readouterr().err)


def test_a_burst_sends_the_run_back_past_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten losses from step 120 on stand above the mean: the state of step 100 comes back, batch 130 is the next one."""
    guard, steps = begun(), []
    guard.went_back = lambda: steps.append(guard.moving.position.step)
    live(guard, lambda t: 8.0 if 120 <= t < 130 else 5.0, draws=200)
    position = guard.moving.position
    assert steps == [100]
    assert (position.step, position.drawn, position.skipped) == (170, [200], 30)
    assert "step 130 the loss is 8.00" in (err := capsys.readouterr().err)
    assert re.search("step 100.*1 of 3", err)


@pytest.mark.parametrize(
    "loss_of",
    [
        lambda t: 9.0 - t / 40,
        lambda t: 5.0 + 3.0 * (t % 10 == 0),
        lambda t: 5.0 + 3.0 * (t % 20 < 9),
        lambda t: 5.0 + 0.9 * (t > 150),
        lambda t: 5.0 + 6.0 * (t < SETTLED),
        lambda t: 12.0 if 10 < t < 40 else 7.0,
    ],
    ids=["falling", "single batches", "nine in a row", "a small rise", "the beginning", "a bad beginning"],
)
def test_what_is_no_burst(loss_of: Callable[[int], float]) -> None:
    guard = begun()
    live(guard, loss_of, draws=320)
    assert guard.moving.position.step == 320


def test_no_state_is_kept_while_losses_are_high() -> None:
    guard = begun()
    live(guard, lambda t: 8.0 if 95 <= t < 104 else 5.0, draws=104)
    assert guard.good is not None
    assert guard.good.step == 50


def test_broken_weights_send_the_run_back_until_it_gives_up() -> None:
    """From batch 60 on nothing is finite: three failures a time, three times back, and at the fourth the end."""
    guard = begun()
    with pytest.raises(TrainingError, match=r"3 batches.*step 50.*3 times"):
        live(guard, lambda t: math.nan if t >= 60 else 5.0, draws=1000)
    position = guard.moving.position
    assert (position.step, position.drawn, position.attempts) == (50, [72], 0)


def test_progress_renews_the_attempts() -> None:
    """Bursts a hundred steps apart never add up."""
    guard = begun(attempts=1)
    live(guard, lambda t: 8.0 if t > 100 and t % 200 < 10 else 5.0, draws=1500)
    assert guard.moving.position.step > 1000


def test_without_attempts_nothing_is_kept() -> None:
    guard = begun(attempts=0)
    assert guard.good is None
    with pytest.raises(NotFiniteError, match="--learning-rate"):
        live(guard, lambda t: math.nan, draws=1)
    live(guard, lambda t: 5.0 if t < 100 else 9.0, draws=200)
    assert guard.moving.position.step == 199
