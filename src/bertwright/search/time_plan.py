"""Divides the time of a study: how many runs a trial has, and how many epochs each model has time for.

First the files are read and each model is measured. A part is kept back for the seeds of the winner: no more epochs
are tried than let these seeds take a third of the time. The rest is for trials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bertwright.errors import UsageError
from bertwright.search.task_trials import TaskTrials
from bertwright.search.trials import MARGIN

WINNER_SHARE = 1 / 3
"""Share of the time that the seeds of the winner may take."""
ONE_RUN_SHARE = 1 / 8
"""Share of the time, of all processes, that one run may take."""
RUNS_WORTH = ((30, 3), (12, 2))
"""Runs of the defaults for which there is time, at least, and the runs of a trial then; else a trial has one."""


@dataclass(frozen=True)
class TimePlan:
    """How many runs a trial has, and the most epochs that are tried with each model."""

    runs: int
    most_epochs: dict[str, int]


def plan_time(trials: TaskTrials, *, limit: float, spent: float, seeds: int, processes: int) -> TimePlan:
    """Return how the `limit` seconds of a study are divided, of which so many are spent; raises UsageError if too few.

    `seeds` are those of the winner, `processes` those that search.
    """
    usual = trials.first[: trials.usual]
    each = [MARGIN * trials.run_seconds(one) for one in usual]
    winner = MARGIN * seeds * max(trials.retraining_seconds(one) for one in usual)
    fewest = trials.folds or 1
    needed = spent + fewest * max(max(each), sum(each) / processes) + winner
    if needed > limit:
        models = "" if len(usual) == 1 else f" with each of {len(usual)} models"
        raise UsageError(
            f"--minutes {limit / 60:g} is too short: the defaults{models} take about {fewest * sum(each):.0f} s here, "
            f"and {seeds} {'seed' if seeds == 1 else 'seeds'} of the winner as much as {winner:.0f} s; give --minutes "
            f"{math.ceil(needed / 60)} for these alone, or better {math.ceil(5 * needed / 60)}"
        )
    room = processes * (limit - spent - winner) / each[0]
    runs = trials.folds or next((runs for most, runs in RUNS_WORTH if room >= most * len(usual)), 1)
    return TimePlan(
        runs,
        most_epochs(
            trials, limit=limit, seeds=seeds, processes=processes, usual=dict(zip(trials.setups, usual, strict=True))
        ),
    )


def most_epochs(
    trials: TaskTrials, *, limit: float, seeds: int, processes: int, usual: Mapping[str, Mapping[str, object]]
) -> dict[str, int]:
    """Return the most epochs of each model, and no fewer than its defaults have."""
    found = {}
    for model, params in usual.items():
        speed, default = trials.speeds[model], math.ceil(trials.epochs(params))
        by_winner = WINNER_SHARE * limit / (MARGIN * seeds * (speed.alone + speed.evaluation))
        by_run = ONE_RUN_SHARE * limit * processes / (MARGIN * speed.epoch)
        found[model] = max(default, int(min(by_winner, by_run)))
    return found
