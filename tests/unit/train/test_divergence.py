"""A run whose last step ruins its weights ends by an error, or goes back; ruined weights are never the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn

from bertwright.errors import DivergedError, NotFiniteError, TrainingError
from bertwright.train.callbacks.best import BestListener
from bertwright.train.checkpoint.snapshot import TrainState
from bertwright.train.divergence import DivergenceListener, end_if_diverged, reason_of_divergence
from bertwright.train.loop import PhaseSource, Progress, StepReport, train
from bertwright.train.loss_guard import GuardConfig, LossSpikeGuard
from bertwright.train.parallel.group import ALONE
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.types import TokenRows


class Steps:
    """Stands for a training step: each adds one to the weights, or makes them no numbers where `ruins` says so."""

    group, average = ALONE, None

    def __init__(self, ruins: Callable[[int], bool]) -> None:
        self.model, self.ruins, self.made = nn.Linear(2, 2), ruins, 0
        self.optimizers = [torch.optim.AdamW(self.model.parameters())]

    @torch.no_grad()
    def __call__(self, step: int, work: Sequence[Any], **_: Any) -> dict[str, float]:
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise NotFiniteError(f"at step {step} the loss is nan")
        self.made += 1
        for parameter in self.model.parameters():
            parameter.add_(math.nan if self.ruins(self.made) else 1.0)
        return {"loss": 2.0, "gradient_norm": 1.0}


def reports(
    step: Steps, schedule: ScheduleConfig, *, guard: LossSpikeGuard | None, position: Progress, ticks: float
) -> list[int]:
    """Return the steps that were reported; each look at the clock takes so many seconds."""
    rows = torch.ones(1, 8, dtype=torch.int64)
    source = PhaseSource(lambda t: TokenRows(rows, rows, rows > 0), rows_per_epoch=10, flops=lambda batch, progress: 1)
    now = iter(range(10_000))
    found = []
    for report in train(
        step,  # type: ignore[arg-type]
        [source],
        schedule,
        position=position,
        accumulation=1,
        guard=guard,
        clock=lambda: next(now) * ticks,
    ):
        found.append(report.position.step)
        if guard is not None:
            guard(report)
        assert report.last == (report.progress >= 1)
    return found


PHASES = (Phase(length=8, rows=1, share=1.0),)


def test_a_last_step_that_ruins_the_weights_is_an_error() -> None:
    schedule = ScheduleConfig(steps=3, phases=PHASES)
    with pytest.raises(NotFiniteError, match=r"step 3.*--learning"):
        reports(Steps(lambda made: made == 3), schedule, guard=None, position=Progress(drawn=[0]), ticks=0.0)


def guarded(step: Steps, position: Progress, **settings: float) -> LossSpikeGuard:
    return LossSpikeGuard(GuardConfig.model_validate(settings), TrainState(step.model, step.optimizers, position))


def test_a_guard_goes_back_and_makes_the_last_steps_anew() -> None:
    step, position = Steps(lambda made: made == 5), Progress(drawn=[0])
    found = reports(
        step,
        ScheduleConfig(steps=5, phases=PHASES),
        guard=guarded(step, position, every=2),
        position=position,
        ticks=0.0,
    )
    assert found == [1, 2, 3, 4, 5]  # the ruined step 5 was never reported, that after it is
    assert position.skipped == 1
    assert all(p.isfinite().all() for p in step.model.parameters())
    always, position = Steps(lambda made: made >= 5), Progress(drawn=[0])
    guard = guarded(always, position, every=2, attempts=2)
    with pytest.raises(TrainingError, match=r"step 4.*2 times"):
        reports(always, ScheduleConfig(steps=5, phases=PHASES), guard=guard, position=position, ticks=0.0)


def test_ruined_weights_are_not_what_a_guard_goes_back_to() -> None:
    step, position = Steps(lambda made: made == 4), Progress(drawn=[0])
    reports(
        step,
        ScheduleConfig(steps=6, phases=PHASES),
        guard=guarded(step, position, every=2),
        position=position,
        ticks=0.0,
    )
    assert position.attempts in (0, 1)
    assert all(p.isfinite().all() for p in step.model.parameters())


def test_where_the_time_is_up_the_state_gone_back_to_is_the_last() -> None:
    """It is reported as the last one, so that it is evaluated; without any good step there is no model."""
    step, position = Steps(lambda made: made > 2), Progress(drawn=[0])
    schedule = ScheduleConfig(minutes=1, phases=PHASES)
    found = reports(step, schedule, guard=guarded(step, position, every=1), position=position, ticks=6.0)
    assert found[-1] == 2
    assert position.step == 2
    never, position = Steps(lambda made: True), Progress(drawn=[0])
    with pytest.raises(TrainingError, match=r"no step|3 times"):
        reports(never, schedule, guard=guarded(never, position, every=1), position=position, ticks=6.0)


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
    reason = reason_of_divergence(norm, losses, Progress(step=9, first_loss=0.7, first_norm=1.0))
    assert (reason or "").startswith(expected or "")
    assert bool(reason) == bool(expected)
    earlier = reason_of_divergence(
        norm, losses, Progress(step=9)
    )  # a run of an earlier version: no first loss is known
    assert bool(earlier) == (not math.isfinite(norm) or math.isnan(losses[0]))


def test_figures_of_ruined_weights_are_never_the_best() -> None:
    """Always the same class is right at times; the last evaluation ends the run, those before do not."""
    model = nn.Linear(2, 2)
    best, look = BestListener(model, "accuracy"), DivergenceListener(model)
    for step, (loss, last) in enumerate([(0.5, False), (90.0, False), (math.nan, True)], start=1):
        position = Progress(step=step, first_loss=0.7, first_norm=1.0)
        notes: dict[str, Any] = {"valid": {"accuracy": 0.1 * step, "loss": loss}}
        report = StepReport(position, step / 3, 0, 1.0, last=last, notes=notes)
        look(report)
        best(report)
        if last:
            with pytest.raises(DivergedError, match=r"diverged.*nan"):
                end_if_diverged(report)
        else:
            end_if_diverged(report)
    assert (best.step, best.waited) == (1, 2)


def test_a_squared_error_may_be_any_times_as_large_as_that_of_the_first_batch() -> None:
    """One score far off is enough; only where it is no number has the run diverged."""
    model = nn.Linear(2, 2)
    for error, diverged in ((9881.0, False), (math.nan, True)):
        position = Progress(step=9, first_loss=0.5, first_norm=1.0)
        position.window.update({"loss": 900.0, "steps": 1.0})
        notes: dict[str, Any] = {"valid": {"mean_squared_error": error}}
        report = StepReport(position, 1.0, 0, 1.0, last=True, notes=notes)
        DivergenceListener(model)(report)
        assert ("diverged" in report.notes) == diverged


def test_a_guard_keeps_no_weights_that_have_grown_without_bound() -> None:
    """Finite as they are; and it still knows how large they were at first when it has gone back to the beginning."""
    step, position = Steps(lambda made: False), Progress(drawn=[0])
    guard = guarded(step, position, every=1, attempts=1)
    position.first_norm, position.step = 1.0, 1
    with torch.no_grad():
        step.model.weight.fill_(1e6)
    guard(StepReport(position, 0.5, 0, 1.0, last=False))
    assert float(step.model.weight.detach().abs().max()) < 10
    assert (position.step, position.first_norm) == (0, 1.0)
