"""A run whose last step ruins its weights ends by an error, or goes back; ruined weights are never the best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import nn

from bertwright.errors import DivergedError, NotFiniteError, TrainingError
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.best import BestCallback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.loader import TaskLoader
from bertwright.train.loop import train, weight_norm
from bertwright.train.loss_guard import GuardConfig, LossSpikeGuard
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import NORM, Engine, Gradient
from bertwright.types import TokenRows


class Steps(Engine):
    """Makes steps without a model: each adds one to the weights, or makes them no numbers where `ruins` says so."""

    def __init__(self, ruins: Callable[[int], bool]) -> None:
        super().__init__(torch.device("cpu"), seed=0, clip_norm=0.0)
        self.ruins, self.made = ruins, 0

    def gradient(self, state: TrainState, *given: Any, fraction: float, **named: Any) -> Gradient:
        finite = all(bool(p.isfinite().all()) for p in state.model.parameters())
        return Gradient(state.progress.step, fraction, ("loss", NORM), torch.tensor([2.0 if finite else math.nan, 1.0]))

    @torch.no_grad()
    def update(self, state: TrainState, gradient: Gradient, **named: Any) -> None:
        if gradient.error is None:
            self.made += 1
            for parameter in state.model.parameters():
                parameter.add_(math.nan if self.ruins(self.made) else 1.0)


class OneRow:
    """Batches of one row."""

    def draw(self, t: int) -> TokenRows:
        rows = torch.ones(1, 8, dtype=torch.int64)
        return TokenRows(rows, rows, rows > 0)


@dataclass
class Reported(Callback):
    """Notes the steps that are reported."""

    steps: list[int] = field(default_factory=list)

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report.progress.step)
        assert report.last == (report.fraction >= 1)


def begun() -> TrainState:
    model = nn.Linear(2, 2)
    return TrainState(model, [torch.optim.AdamW(model.parameters())], Progress(drawn=[0]))


def guarded(state: TrainState, schedule: ScheduleConfig, **settings: float) -> LossSpikeGuard:
    divergence = DivergenceCallback(state.model, MetricsWindow())
    return LossSpikeGuard(GuardConfig.model_validate(settings), state, schedule, divergence)


def reports(
    state: TrainState, steps: Steps, schedule: ScheduleConfig, *, guard: LossSpikeGuard | None, ticks: float = 0.0
) -> list[int]:
    """Return the steps that were reported; each look at the clock takes so many seconds."""
    loader = TaskLoader(OneRow(), schedule, rows_per_epoch=10, flops=lambda batch: 1)
    now, reported = iter(range(10_000)), Reported()
    callbacks = [reported] if guard is None else [guard.divergence, reported, guard]
    objective: Any = None
    train(state, loader, objective, callbacks, engine=steps, guard=guard, clock=lambda: next(now) * ticks)
    return reported.steps


PHASES = (Phase(length=8, rows=1, share=1.0),)


def test_a_last_step_that_ruins_the_weights_is_an_error() -> None:
    schedule = ScheduleConfig(steps=3, phases=PHASES)
    with pytest.raises(NotFiniteError, match=r"step 3.*--learning"):
        reports(begun(), Steps(lambda made: made == 3), schedule, guard=None)


def test_a_guard_goes_back_and_makes_the_last_steps_anew() -> None:
    state, schedule = begun(), ScheduleConfig(steps=5, phases=PHASES)
    guard = guarded(state, schedule, every=2)
    # the ruined step 5 was never reported, that after it is
    assert reports(state, Steps(lambda made: made == 5), schedule, guard=guard) == [1, 2, 3, 4, 5]
    assert guard.skipped == 1
    assert all(p.isfinite().all() for p in state.model.parameters())
    state = begun()
    guard = guarded(state, schedule, every=2, attempts=2)
    with pytest.raises(TrainingError, match=r"step 4.*2 times"):
        reports(state, Steps(lambda made: made >= 5), schedule, guard=guard)


def test_ruined_weights_are_not_what_a_guard_goes_back_to() -> None:
    state, schedule = begun(), ScheduleConfig(steps=6, phases=PHASES)
    guard = guarded(state, schedule, every=2)
    reports(state, Steps(lambda made: made == 4), schedule, guard=guard)
    assert guard.attempts in (0, 1)
    assert all(p.isfinite().all() for p in state.model.parameters())


def test_where_the_time_is_up_the_state_gone_back_to_is_the_last() -> None:
    """It is reported as the last one, so that it is evaluated; without any good step there is no model."""
    state, schedule = begun(), ScheduleConfig(minutes=1, phases=PHASES)
    guard = guarded(state, schedule, every=1)
    assert reports(state, Steps(lambda made: made > 2), schedule, guard=guard, ticks=6.0)[-1] == 2
    assert state.progress.step == 2
    state, never = begun(), Steps(lambda made: True)
    with pytest.raises(TrainingError, match=r"no step|3 times"):
        reports(state, never, schedule, guard=guarded(state, schedule, every=1), ticks=6.0)


@pytest.mark.parametrize(
    ("norm", "losses", "expected"),
    [
        (2.0, [0.9, 16.0], None),
        (2.0, [18.0], "the loss is 18 at step 9, and was 0.7 at the first step"),
        (2.0, [math.nan], "the loss is nan"),
        (math.inf, [0.7], "step 9 left weights that are no numbers"),
        (2000.0, [0.7], "after step 9 the weights are 2,000 times as large as at first"),
    ],
)
def test_reasons(norm: float, losses: list[float], expected: str | None) -> None:
    known = DivergenceCallback(nn.Linear(1, 1), MetricsWindow(), first_loss=0.7, first_norm=1.0)
    reason = known.reason(norm, losses, step=9)
    assert (reason or "").startswith(expected or "")
    assert bool(reason) == bool(expected)
    # a run of an earlier version: no first loss is known
    earlier = DivergenceCallback(nn.Linear(1, 1), MetricsWindow()).reason(norm, losses, step=9)
    assert bool(earlier) == (not math.isfinite(norm) or math.isnan(losses[0]))


def test_figures_of_ruined_weights_are_never_the_best() -> None:
    """Always the same class is right at times; the last evaluation ends the run, those before do not."""
    model = nn.Linear(2, 2)
    best = BestCallback(model, "accuracy")
    look = DivergenceCallback(model, MetricsWindow(), first_loss=0.7, first_norm=1.0)
    for step, (loss, last) in enumerate([(0.5, False), (90.0, False), (math.nan, True)], start=1):
        notes: dict[str, Any] = {"valid": {"accuracy": 0.1 * step, "loss": loss}}
        report = StepReport(Progress(step=step), step / 3, 0, 1.0, last=last, notes=notes)
        look.on_step(report)
        best.on_step(report)
        if last:
            with pytest.raises(DivergedError, match="the run diverged: the loss is nan"):
                EndIfDiverged().on_step(report)
        else:
            EndIfDiverged().on_step(report)
    assert (best.step, best.waited) == (1, 2)


def test_a_squared_error_may_be_any_times_as_large_as_that_of_the_first_batch() -> None:
    """One score far off is enough; only where it is no number has the run diverged."""
    model, window = nn.Linear(2, 2), MetricsWindow({"loss": 900.0, "steps": 1.0})
    for error, diverged in ((9881.0, False), (math.nan, True)):
        notes: dict[str, Any] = {"valid": {"mean_squared_error": error}}
        report = StepReport(Progress(step=9), 1.0, 0, 1.0, last=True, notes=notes)
        DivergenceCallback(model, window, first_loss=0.5, first_norm=1.0).on_step(report)
        assert ("diverged" in report.notes) == diverged


def test_the_loss_of_the_first_step_is_kept_by_a_run_that_was_stopped_before_it_was_looked_at() -> None:
    """The figures of a step count at once; a callback before this one may stop the run."""
    window = MetricsWindow({"loss": 3.5, "steps": 1.0})
    callback = DivergenceCallback(nn.Linear(1, 1), window)
    callback.on_step(StepReport(Progress(step=1), 0.5, 0, 1.0, last=False))
    assert callback.first_loss == 3.5


def test_a_guard_keeps_no_weights_that_have_grown_without_bound() -> None:
    """Finite as they are; and it still knows how large they were at first when it has gone back to the beginning."""
    state, schedule = begun(), ScheduleConfig(steps=2, phases=PHASES)
    guard = guarded(state, schedule, every=1, attempts=1)
    state.attach([guard.divergence, guard])
    guard.on_begin(state, 0.0)
    guard.divergence.first_norm, state.progress.step = 1.0, 1
    with torch.no_grad():
        next(state.model.parameters()).fill_(1e6)
    guard.on_step(StepReport(state.progress, 0.5, 0, 1.0, last=False))
    assert float(next(state.model.parameters()).detach().abs().max()) < 10
    assert state.progress.step == 0
    assert guard.divergence.first_norm == pytest.approx(weight_norm(state.model))
