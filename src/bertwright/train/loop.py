"""The training loop: turns batches into a trained model, one optimizer step at a time.

It knows no objective, task or architecture. Everything else (metrics, evaluation, checkpoints) is done by callbacks,
after each step; see `callbacks/`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from bertwright.errors import NotFiniteError, TrainingError
from bertwright.objectives.base import Objective
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.loader import Loader, Work
from bertwright.train.parallel.group import full_tensor
from bertwright.train.schedule import rate_factor
from bertwright.train.state import TrainState
from bertwright.train.step import Engine

if TYPE_CHECKING:
    from bertwright.train.loss_guard import LossSpikeGuard


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
    """
    progress, schedule, reported = state.progress, loader.schedule, True
    began = clock() - progress.seconds
    state.attach(callbacks)
    for callback in callbacks:
        callback.on_begin(state, progress.fraction(schedule))
    if not state.callbacks_done:
        state.callbacks_done = True
        if report(state, loader, callbacks, {}):
            return
    while (fraction := progress.fraction(schedule)) < 1:
        step_began, phase, reported = clock(), schedule.phase_at(fraction), False
        work = loader.work(phase, progress.drawn[phase])
        waiting = clock() - step_began
        factor = rate_factor(fraction, schedule) * schedule.phases[phase].rate
        try:
            sums = engine.step(state, objective, work, of=loader.accumulation, fraction=fraction, rate_factor=factor)
        except NotFiniteError as error:
            if guard is None:
                raise
            progress.drawn[phase] += loader.accumulation
            progress.seconds = engine.group.broadcast(clock() - began)
            guard.failed(error)
            continue
        state.phase, state.rate_factor = phase, factor
        counts = count(state, loader, work, fraction=fraction, seconds=clock() - began)
        sums |= {"steps": 1.0, **counts, "waiting": waiting, "seconds": clock() - step_began}
        fraction = progress.fraction(schedule)
        if state.average is not None:
            state.average.update(fraction)
        if fraction >= 1 and not math.isfinite(weight_norm(state.model)):
            broken = NotFiniteError(f"step {progress.step} left weights that are no numbers")
            if guard is None:
                raise broken
            guard.broken(broken)
        elif guard is None or guard.passed(sums["loss"], phase=phase):
            reported = True
            if report(state, loader, callbacks, sums):
                return
    if not reported:  # the time is up, and the last steps failed or were undone
        if not progress.step:
            raise TrainingError("no step of the run succeeded before its time was up; lower --learning-rate")
        report(state, loader, callbacks, {})


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


def report(state: TrainState, loader: Loader, callbacks: Sequence[Callback], sums: dict[str, float]) -> bool:
    """Have each callback do its work after the last step; return whether one of them ends the run."""
    fraction = state.progress.fraction(loader.schedule)
    step = StepReport(state.progress, fraction, state.phase, state.rate_factor, last=fraction >= 1, sums=sums)
    for callback in callbacks:
        callback.on_step(step)
    return step.stop


def weight_norm(model: nn.Module) -> float:
    """Return the Euclidean norm of all weights; every process must ask where they are sharded."""
    return float(full_tensor(nn.utils.get_total_norm([parameter.detach() for parameter in model.parameters()])))
