"""The training loop: turns batches into step reports, one optimizer step at a time.

Everything else (progress, metrics, evaluation, checkpoints) listens to the reports; see `listeners/`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bertwright.train.distributed import Piece
from bertwright.train.schedule import ScheduleConfig, Spent, rate_factor
from bertwright.train.step import TrainStep
from bertwright.types import TokenRows


@dataclass
class Position:
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

    def spent(self) -> Spent:
        """Return what the schedule measures progress by."""
        return Spent(self.step, self.tokens, self.epochs, self.seconds, self.setup_seconds)


@dataclass(frozen=True)
class PhaseSource:
    """The batches of one sequence-length phase, with what the loop must know of them."""

    draw: Callable[[int], TokenRows]
    rows_per_epoch: int
    flops: Callable[[TokenRows, float], int]
    """Useful floating-point operations of a micro-batch, forward and backward, at a progress in [0, 1]."""


@dataclass(frozen=True)
class StepReport:
    """What one step did. `notes` is filled by listeners, in order, for those after them."""

    position: Position
    progress: float
    phase: int
    learning_rate_factor: float
    last: bool
    notes: dict[str, Any] = field(default_factory=dict)


def train(
    step: TrainStep,
    sources: Sequence[PhaseSource],
    schedule: ScheduleConfig,
    *,
    position: Position,
    accumulation: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[StepReport]:
    """Train until `schedule` is used up, yielding a report after each step; `position` is moved along in place.

    Step t of a phase draws its micro-batches by number, so a run that starts from a saved `position` goes on exactly.
    """
    began = clock() - position.seconds
    progress = position.spent().progress(schedule)
    while progress < 1:
        step_began = clock()
        phase = schedule.phase_at(progress)
        source, first = sources[phase], position.drawn[phase]
        work = [(piece, source.draw(first + piece.index)) for piece in step.group.pieces(accumulation)]
        factor = rate_factor(progress, schedule) * schedule.phases[phase].rate
        sums = step(position.step, work, micro_batches=accumulation, rate_factor=factor, progress=progress)
        done = step.group.total(_counted(work, source, progress))
        position.step += 1
        position.tokens += int(done["tokens"])
        position.drawn[phase] += accumulation
        position.epochs += done["rows"] / source.rows_per_epoch
        position.seconds = step.group.of_first(clock() - began)
        spent = {"steps": 1.0, "tokens": done["tokens"], "flops": done["flops"], "seconds": clock() - step_began}
        for name, value in {**sums, **spent}.items():
            position.window[name] = position.window.get(name, 0.0) + value
        progress = position.spent().progress(schedule)
        if step.average is not None:
            step.average.update(progress)
        yield StepReport(position, progress, phase, factor, last=progress >= 1)


def _counted(work: Sequence[tuple[Piece, TokenRows]], source: PhaseSource, progress: float) -> dict[str, float]:
    """Return the rows, tokens (padding not counted) and useful operations of what one process does in a step."""
    mine = [piece.rows(len(batch.input_ids)) for piece, batch in work]
    return {
        "rows": sum(rows.stop - rows.start for rows in mine),
        "tokens": sum(int(batch.attention_mask[rows].sum()) for rows, (_, batch) in zip(mine, work, strict=True)),
        "flops": sum(source.flops(batch, progress) * piece.share for piece, batch in work),
    }
