"""Batches without a finite loss are left out, a loss that bursts sends the run back, and neither goes on for ever."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from bertwright.errors import NotFiniteError, TrainingError
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.divergence import DivergenceCallback
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.loss_guard import SETTLED, GuardConfig, LossSpikeGuard
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.state import Progress, TrainState

LOSSES = Iterator[float]


def begun(**settings: float) -> LossSpikeGuard:
    """A guard over a model whose weight counts the steps made."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    state = TrainState(model, [torch.optim.AdamW(model.parameters())], Progress(drawn=[0]))
    divergence = DivergenceCallback(model, MetricsWindow())
    guard = LossSpikeGuard(GuardConfig.model_validate(settings), state, ScheduleConfig(steps=10_000), divergence)
    state.attach([guard])
    guard.on_begin(state, 0.0)
    return guard


@torch.no_grad()
def live(guard: LossSpikeGuard, loss_of: Callable[[int], float], *, draws: int) -> None:
    """Make a step with each batch, its loss given by its number; nan fails."""
    progress, (weight,) = guard.train_state.progress, guard.train_state.model.parameters()
    while progress.drawn[0] < draws:
        loss = loss_of(progress.drawn[0])
        progress.drawn[0] += 1
        if math.isnan(loss):
            guard.failed(NotFiniteError(f"at step {progress.step} the loss is nan"))
            continue
        progress.step += 1
        weight += 1
        if guard.passed(loss, phase=0):
            guard.on_step(StepReport(progress, 0.5, 0, 1.0, last=False))
        assert weight.item() == progress.step


def test_a_batch_that_fails_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    guard = begun()
    live(guard, lambda t: math.nan if t == 20 else 5.0, draws=60)
    assert (guard.train_state.progress.step, guard.skipped, guard.attempts) == (59, 1, 0)
    assert re.fullmatch("at step 20 the loss is nan.*\n", capsys.readouterr().err)


def test_a_burst_sends_the_run_back_past_its_batches(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten losses from step 120 on stand above the mean: the state of step 100 comes back, batch 130 is the next one."""
    guard, begins = begun(), []

    class Begins(Callback):
        def on_begin(self, state: TrainState, fraction: float) -> None:
            begins.append(state.progress.step)

    guard.train_state.attach([guard, Begins()])
    live(guard, lambda t: 8.0 if 120 <= t < 130 else 5.0, draws=200)
    progress = guard.train_state.progress
    assert begins == [100]
    assert (progress.step, progress.drawn, guard.skipped) == (170, [200], 30)
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
    assert guard.train_state.progress.step == 320


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
    progress = guard.train_state.progress
    assert (progress.step, progress.drawn, guard.attempts) == (50, [72], 0)


def test_progress_renews_the_attempts() -> None:
    """Bursts a hundred steps apart never add up."""
    guard = begun(attempts=1)
    live(guard, lambda t: 8.0 if t > 100 and t % 200 < 10 else 5.0, draws=1500)
    assert guard.train_state.progress.step > 1000


def test_without_attempts_nothing_is_kept() -> None:
    guard = begun(attempts=0)
    assert guard.good is None
    with pytest.raises(NotFiniteError, match="--learning-rate"):
        live(guard, lambda t: math.nan, draws=1)
    live(guard, lambda t: 5.0 if t < 100 else 9.0, draws=200)
    assert guard.train_state.progress.step == 199
