"""Turns the work of a run, in counted operations, into how many held-out evaluations it can afford: 5% of it."""

from __future__ import annotations

from bertwright.inference.samples import COUNT as SAMPLES
from bertwright.model.config import training_flops
from bertwright.objectives.base import PretrainingObjective
from bertwright.train.setup.run import Parts

SHARE = 0.05
"""Of the operations of a run, the most its held-out evaluations may take together, but for the one at its end."""
MOST = 20
"""Evaluations of a run that can afford more; curves need no more points."""
USED_RATE = 0.5
"""Share of the measured rate of matrix products that a run measured in minutes is taken to reach."""


def evaluation_count(parts: Parts, objective: PretrainingObjective, *, rows: int, work: float) -> int:
    """Return how many evaluations of `rows` held-out rows fit into their share of `work`: 1 to 20.

    An evaluation is a forward pass, a third of the operations of a training step, over these rows and the sentences
    whose predictions are shown; over all of them again for averaged weights.
    """
    length = parts.config.schedule.phases[0].length
    masked = objective.masked_slots(length)
    passes = 1 if parts.average is None else 2
    one = passes * training_flops(parts.shape, rows=rows + SAMPLES, length=length, masked=masked) / 3
    return max(1, min(MOST, int(SHARE * work / one)))


def run_work(parts: Parts, *, peak: float, seconds: float) -> float:
    """Return about how many operations a run takes, by its settings and data alone; in minutes, by its rate too.

    `peak` is the measured rate of matrix products, `seconds` what is left of the minutes before the first step. Tokens
    are taken as those of full rows, so a run of tokens takes at least the work returned.
    """
    schedule = parts.config.schedule
    if schedule.unit == "minutes":
        return peak * USED_RATE * max(0.0, seconds)
    work, before = 0.0, 0.0
    for phase, source in zip(schedule.phases, parts.sources, strict=True):
        units = {"steps": 1.0, "tokens": phase.rows * phase.length, "epochs": phase.rows / source.rows_per_epoch}
        steps = schedule.amount * phase.share / units[schedule.unit]
        masked = parts.objective.masked_slots(phase.length, before + phase.share / 2)
        work += steps * training_flops(parts.shape, rows=phase.rows, length=phase.length, masked=masked)
        before += phase.share
    return work
