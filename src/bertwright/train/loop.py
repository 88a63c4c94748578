"""The training loop: turns batches into step reports, one optimizer step at a time.

Everything else (progress, metrics, evaluation, checkpoints) listens to the reports; see `callbacks/`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from torch import nn

from bertwright.errors import NotFiniteError, TrainingError
from bertwright.train.parallel.group import BatchSlice, whole
from bertwright.train.schedule import ScheduleConfig, Spent, rate_factor
from bertwright.train.step import TrainStep
from bertwright.types import TokenRows


@dataclass
class Progress:
    """Where a run stands: all a checkpoint needs besides weights and optimizer moments. No random state: see rng.py."""

    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Tokens seen, padding not counted."""
    epochs: float = 0.0
    """Passes over the training split, counted in rows."""
    seconds: float = 0.0
    """Wall clock spent training, over all sessions of the run."""
    setup_seconds: float = 0.0
    """Part of it spent before the first step."""
    drawn: list[int] = field(default_factory=list)
    """Micro-batches drawn in each phase."""
    window: dict[str, float] = field(default_factory=dict)
    """Sums since the last line of metrics.jsonl: the loss parts, and the steps, tokens, flops and seconds they took."""
    phase: int = 0
    """Phase of the last step."""
    rate_factor: float = 0.0
    """Learning-rate factor of the last step."""
    heard: bool = True
    """Whether the callbacks heard of the last step; not where a stop was asked for while they evaluated."""
    skipped: int = 0
    """Steps whose batches were left out: they failed, or were undone. What is next to draw is in `drawn`."""
    failed: int = 0
    """Batches in a row that failed. This and all below is what a guard knows and goes by; see loss_guard.py."""
    judged_phase: int = 0
    """The phase the losses judged are of."""
    judged: int = 0
    """Losses of it that the running mean holds."""
    mean_loss: float = 0.0
    """The running mean of the loss."""
    above: int = 0
    """Losses in a row far above it."""
    attempts: int = 0
    """Times the run has gone back to the state it would go back to now."""
    stalled: float = 0.0
    """Seconds that steps waited for copies of the state, over all sessions of the run."""
    saved: int = 0
    """Checkpoints begun, over all sessions of the run."""
    first_loss: float = 0.0
    """Loss of the first step, and ..."""
    first_norm: float = 0.0
    """... norm of the weights before it: what a run that diverges is told by. Both 0 in runs of earlier versions."""

    def become(self, other: Mapping[str, Any]) -> None:
        """Take over what `other` says, in place; raises TypeError where it says what a position does not know."""
        fresh = Progress()
        known = {one.name: type(getattr(fresh, one.name)) for one in fields(self)}
        for name, value in other.items():
            if name not in known:
                raise TypeError(f"a position has no {name}")
            if not fits(value, known[name]):
                raise TypeError(f"the {name} of a position cannot be {str(value)[:50]!r}")
            setattr(self, name, deepcopy(value))

    def advance(self, tokens: int, rows_share: float, drawn: int) -> None:
        """Count a step over `tokens` tokens, a share of an epoch's rows, in so many micro-batches."""
        self.step += 1
        self.tokens += tokens
        self.drawn[self.phase] += drawn
        self.epochs += rows_share

    def spent(self) -> Spent:
        """Return what the schedule measures progress by."""
        return Spent(self.step, self.tokens, self.epochs, self.seconds, self.setup_seconds)


def fits(value: object, kind: type) -> bool:
    """Say whether a value of JSON can stand for a count (int), a figure (float), a list of counts, or named figures."""
    if kind is list:
        return isinstance(value, list) and all(fits(one, int) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(one, float) for one in value.values())
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(value, kind) and (kind is not int or 0 <= value < 2**63)  # type: ignore[operator]


@dataclass(frozen=True)
class PhaseSource:
    """The batches of one sequence-length phase, with what the loop must know of them."""

    draw: Callable[[int], TokenRows]
    rows_per_epoch: int
    flops: Callable[[TokenRows, float], int]
    """Useful floating-point operations of a micro-batch, forward and backward, at a progress in [0, 1]."""


@dataclass(frozen=True)
class StepReport:
    """What one step did. `notes` is filled by callbacks, in order, for those after them."""

    position: Progress
    progress: float
    phase: int
    learning_rate_factor: float
    last: bool
    notes: dict[str, Any] = field(default_factory=dict)


class Watch(Protocol):
    """What is told how steps went, and may set the run back."""

    def failed(self, error: NotFiniteError) -> None:
        """Hear of a step that changed nothing; raise to end the run."""
        ...

    def passed(self, loss: float, *, phase: int) -> bool:
        """Hear the loss of a step; return whether it stands, or the position is an earlier one now."""
        ...

    def broken(self, error: NotFiniteError) -> None:
        """Hear that the weights are no numbers after a step: set the position back; raise to end the run."""
        ...


def train(
    step: TrainStep,
    sources: Sequence[PhaseSource],
    schedule: ScheduleConfig,
    *,
    position: Progress,
    accumulation: int,
    guard: Watch | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[StepReport]:
    """Train until `schedule` is used up, yielding a report after each step; `position` is moved along in place.

    Step t of a phase draws its micro-batches by number, so a run that starts from a saved `position` goes on exactly.
    The clock is one that cannot be set. Raises NotFiniteError where a loss or gradient is not finite and no `guard` is
    given.
    """
    began, reported = clock() - position.seconds, True
    if not position.heard:
        position.heard = True
        yield last_report(position, schedule)
    if not position.step:
        position.first_norm = weight_norm(step.model)
    while (progress := position.spent().progress(schedule)) < 1:
        step_began, reported = clock(), False
        phase = schedule.phase_at(progress)
        source, first = sources[phase], position.drawn[phase]
        work = [(piece, source.draw(first + piece.index)) for piece in step.group.pieces(accumulation)]
        factor = rate_factor(progress, schedule) * schedule.phases[phase].rate
        try:
            sums = step(position.step, work, micro_batches=accumulation, rate_factor=factor, progress=progress)
        except NotFiniteError as error:
            if guard is None:
                raise
            position.drawn[phase] += accumulation
            position.seconds = step.group.broadcast(clock() - began)
            guard.failed(error)
            continue
        if not position.step:
            position.first_loss = sums["loss"]
        position.phase, position.rate_factor = phase, factor
        since = clock() - began if step.group.first else 0.0
        done = step.group.total({**_counted(work, source, progress), "seconds": since})
        position.advance(int(done["tokens"]), done["rows"] / source.rows_per_epoch, accumulation)
        position.seconds = done["seconds"]
        spent = {"steps": 1.0, "tokens": done["tokens"], "flops": done["flops"], "seconds": clock() - step_began}
        for name, value in {**sums, **spent}.items():
            position.window[name] = position.window.get(name, 0.0) + value
        if step.average is not None:
            step.average.update(position.spent().progress(schedule))
        if position.spent().progress(schedule) >= 1 and not math.isfinite(weight_norm(step.model)):
            broken = NotFiniteError(f"step {position.step} left weights that are no numbers")
            if guard is None:
                raise broken
            guard.broken(broken)
        elif guard is None or guard.passed(sums["loss"], phase=phase):
            reported = True
            yield last_report(position, schedule)
    if not reported:  # the time is up, and the last steps failed or were undone
        if not position.step:
            raise TrainingError("no step of the run succeeded before its time was up; lower --learning-rate")
        yield last_report(position, schedule)


def weight_norm(model: nn.Module) -> float:
    """Return the Euclidean norm of all weights; every process must ask where they are sharded."""
    return float(whole(nn.utils.get_total_norm([parameter.detach() for parameter in model.parameters()])))


def last_report(position: Progress, schedule: ScheduleConfig) -> StepReport:
    """Return the report of the step a position stands after."""
    progress = position.spent().progress(schedule)
    return StepReport(position, progress, position.phase, position.rate_factor, last=progress >= 1)


def _counted(work: Sequence[tuple[BatchSlice, TokenRows]], source: PhaseSource, progress: float) -> dict[str, float]:
    """Return the rows, tokens (padding not counted) and useful operations of what one process does in a step."""
    mine = [piece.rows(len(batch.input_ids)) for piece, batch in work]
    return {
        "rows": sum(rows.stop - rows.start for rows in mine),
        "tokens": sum(int(batch.attention_mask[rows].sum()) for rows, (_, batch) in zip(mine, work, strict=True)),
        "flops": sum(source.flops(batch, progress) * piece.share for piece, batch in work),
    }
