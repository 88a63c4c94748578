"""The training loop: turns batches into a trained model, one optimizer step at a time.

It knows no objective, task or architecture. Everything else (metrics, evaluation, checkpoints) is done by callbacks,
after each step; see `callbacks/`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import nn

from bertwright.errors import NotFiniteError, TrainingError
from bertwright.objectives.base import Objective
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.loader import Loader, Work
from bertwright.train.parallel.group import full_tensor
from bertwright.train.schedule import rate_factor
from bertwright.train.state import TrainState
from bertwright.train.step import Engine, Gradient

if TYPE_CHECKING:
    from bertwright.train.loss_guard import LossSpikeGuard


TAKEN_BACK = ("step", "tokens", "epochs", "phase", "rate_factor", "loss_scale", "scale_steps")
"""Figures of the position that are as before where a step fails; its batches are behind, and so is its time."""


def train(
    state: TrainState,
    loader: Loader,
    objective: Objective,
    callbacks: Sequence[Callback],
    *,
    engine: Engine,
    guard: LossSpikeGuard | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Train until the schedule of `loader` is used up, or a callback ends the run; `state` is changed in place.

    Step t of a phase draws its micro-batches by number, so a run that starts from a restored `state` goes on exactly.
    The clock is one that cannot be set. Raises NotFiniteError where a loss or gradient is not finite and no `guard` is
    given, and TrainingError where no step succeeds before the time is up.

    On a GPU the gradients of a step are ordered before the figures of the one before are read, and the parameters moved
    after that: it never stands idle, and guard and callbacks see the state as their step left it. Where they undo that
    step, or change what the next one is computed from, its gradients are dropped and computed again.
    """
    progress, schedule = state.progress, loader.schedule
    steps = Steps(state, loader, objective, callbacks, engine, guard, clock, began=clock() - progress.seconds)
    state.attach(callbacks)
    for callback in callbacks:
        callback.on_begin(state, progress.fraction(schedule))
    if not state.callbacks_done:
        state.callbacks_done = True
        if report(state, loader, callbacks, {}).stop:
            return
    made: MadeStep | None = None
    while made is not None or progress.fraction(schedule) < 1:
        may_begin = progress.fraction(schedule) < 1 and (made is None or engine.runs_ahead(state.optimizers))
        try:
            begun = steps.begin() if may_begin else None
        except Exception:
            if made is not None:  # the step before stands, or falls, by itself
                steps.settle(made)
            raise
        if made is not None:
            reported, made = steps.settle(made), None
            if begun is not None and (reported is None or reported.changed or reported.stop):
                engine.drop(state)
                begun = None
            if reported is not None and reported.stop:
                return
        if begun is not None:
            made = steps.make(begun)
    if not steps.reported:  # the time is up, and the last steps failed or were undone
        if not progress.step:
            raise TrainingError("no step of the run succeeded before its time was up; lower --learning-rate")
        report(state, loader, callbacks, {})


@dataclass(frozen=True)
class BegunStep:
    """A step whose gradients are ordered: what it works on, where in the run it is, and how long it waited for that."""

    work: Work
    gradient: Gradient
    phase: int
    fraction: float
    rate_factor: float
    at: float
    """When it began, by the clock of the run."""
    waiting: float


@dataclass(frozen=True)
class MadeStep:
    """A step that is made and counted, but for the case that its loss or gradient turns out not to be finite."""

    begun: BegunStep
    counts: dict[str, float]
    before: dict[str, Any]
    """The figures of the position that such a step leaves as they were."""


@dataclass
class Steps:
    """The steps of a run, each in three parts: it is begun, made, and settled once its figures are there."""

    state: TrainState
    loader: Loader
    objective: Objective
    callbacks: Sequence[Callback]
    engine: Engine
    guard: LossSpikeGuard | None
    clock: Callable[[], float]
    began: float
    """When the run would have begun, by the clock, had it never been interrupted."""
    settled_at: float = -math.inf
    reported: bool = True
    """Whether the callbacks have seen the last step."""

    def begin(self) -> BegunStep:
        """Order the gradients of the next step."""
        state, loader, schedule, at = self.state, self.loader, self.loader.schedule, self.clock()
        fraction = state.progress.fraction(schedule)
        phase = schedule.phase_at(fraction)
        work = loader.work(phase, state.progress.drawn[phase])
        waiting = self.clock() - at
        factor = rate_factor(fraction, schedule) * schedule.phases[phase].rate
        gradient = self.engine.gradient(state, self.objective, work, of=loader.accumulation, fraction=fraction)
        return BegunStep(work, gradient, phase, fraction, factor, at, waiting)

    def make(self, begun: BegunStep) -> MadeStep:
        """Move the parameters, and count the step."""
        state = self.state
        self.engine.update(state, begun.gradient, rate_factor=begun.rate_factor)
        position = state.progress.state() | state.state() | state.scale.state()
        before = {name: position[name] for name in TAKEN_BACK}
        if self.engine.precision == "fp16":
            state.scale.count()
        state.phase, state.rate_factor = begun.phase, begun.rate_factor
        counts = count(state, self.loader, begun.work, fraction=begun.fraction, seconds=self.clock() - self.began)
        return MadeStep(begun, counts, before)

    def settle(self, made: MadeStep) -> StepReport | None:
        """Read the figures of a step, and have guard and callbacks see it; return None where it is undone."""
        state, begun, self.reported = self.state, made.begun, False
        if begun.gradient.error is not None:
            for part in (state, state.progress, state.scale):
                part.restore(made.before)
            state.progress.seconds = self.engine.group.broadcast(self.clock() - self.began)
            if self.engine.lowers_scale(state, begun.gradient):
                state.progress.drawn[begun.phase] -= self.loader.accumulation
                return None
            self._guard_or(begun.gradient.error).failed(begun.gradient.error)
            return None
        took = {"waiting": begun.waiting, "seconds": self.clock() - max(begun.at, self.settled_at)}
        sums = begun.gradient.figures | {"steps": 1.0, **made.counts, **took}
        fraction = state.progress.fraction(self.loader.schedule)
        if state.average is not None:
            state.average.update(fraction)
        if fraction >= 1 and not math.isfinite(weight_norm(state.model)):
            broken = NotFiniteError(f"step {state.progress.step} left weights that are no numbers")
            self._guard_or(broken).broken(broken)
            return None
        if self.guard is not None and not self.guard.passed(sums["loss"], phase=begun.phase):
            return None
        self.reported = True
        reported = report(state, self.loader, self.callbacks, sums)
        self.settled_at = self.clock()
        return reported

    def _guard_or(self, error: NotFiniteError) -> LossSpikeGuard:
        """Return the guard of the run; raise `error` where it has none."""
        if self.guard is None:
            raise error
        return self.guard


def count(state: TrainState, loader: Loader, work: Work, *, fraction: float, seconds: float) -> dict[str, float]:
    """Count a step that was made at a `fraction` of the run, and is done after so many seconds of training.

    Returns its tokens, places for them and useful operations, summed over all processes.
    """
    progress, phase, group = state.progress, state.phase, loader.group
    mine = loader.counts(work, phase=phase, fraction=fraction)
    done = group.total({**mine, "seconds": seconds if group.is_main else 0.0})
    progress.step += 1
    progress.tokens += int(done["tokens"])
    progress.drawn[phase] += loader.accumulation
    progress.epochs += done["rows"] / loader.rows_per_epoch(phase)
    progress.seconds = done["seconds"]
    return {name: done[name] for name in ("tokens", "places", "flops")}


def report(state: TrainState, loader: Loader, callbacks: Sequence[Callback], sums: dict[str, float]) -> StepReport:
    """Have each callback do its work after the last step; return what they were given, and left there."""
    fraction = state.progress.fraction(loader.schedule)
    step = StepReport(state.progress, fraction, state.phase, state.rate_factor, last=fraction >= 1, sums=sums)
    for callback in callbacks:
        callback.on_step(step)
    return step


def weight_norm(model: nn.Module) -> float:
    """Return the Euclidean norm of all weights; every process must ask where they are sharded."""
    return float(full_tensor(nn.utils.get_total_norm([parameter.detach() for parameter in model.parameters()])))
