"""The time of a study is divided by what was measured: runs a trial and most epochs; too short a time is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from bertwright.errors import UsageError
from bertwright.search.task_trials import ModelSpeed, TaskTrials
from bertwright.search.time_plan import TimePlan, plan_time


class Trials:
    """Trials of models of known speed; the defaults have 3 epochs."""

    def __init__(self, *epochs: float, folds: int = 0) -> None:
        self.speeds = {
            str(place): ModelSpeed(seconds, seconds / 2, evaluation=1.0, start=1.0, latency=1.0, parameters=10)
            for place, seconds in enumerate(epochs)
        }
        self.setups, self.folds, self.usual = dict.fromkeys(self.speeds), folds, len(epochs)
        self.first = [{"model": name} for name in self.speeds]

    def epochs(self, params: dict[str, Any]) -> int:
        return 3

    def run_seconds(self, params: dict[str, Any]) -> float:
        return 3 + 3 * self.speeds[params["model"]].epoch

    def retraining_seconds(self, params: dict[str, Any]) -> float:
        return 6 + 3 * self.speeds[params["model"]].alone


def plan(trials: Trials, **given: Any) -> TimePlan:
    return plan_time(cast(TaskTrials, trials), **({"limit": 1800.0, "spent": 20.0, "seeds": 3, "processes": 1} | given))


def test_more_time_is_more_runs_a_trial_and_more_epochs() -> None:
    """An epoch of 30 s: a run of the defaults takes 102 s with its margin, three seeds of the winner 168 s."""
    plans = [plan(Trials(30.0), limit=60.0 * minutes) for minutes in (10, 30, 60, 240)]
    assert [one.runs for one in plans] == [1, 2, 3, 3]
    most = [one.most_epochs["0"] for one in plans]
    assert most[0] == 3
    assert sorted(set(most)) == most
    third = 60 * 60 / 3
    assert 3 * 1.1 * plans[2].most_epochs["0"] * (15 + 1) <= third


def test_processes_and_folds_count() -> None:
    assert plan(Trials(30.0), limit=1000.0).runs == 1
    assert plan(Trials(30.0), limit=1000.0, processes=2).runs == 2
    assert plan(Trials(30.0, folds=5)).runs == 5
    assert plan(Trials(30.0, 5.0)).most_epochs["1"] > plan(Trials(30.0, 5.0)).most_epochs["0"]


def test_a_time_too_short_for_the_defaults_and_the_winner_is_refused_with_one_that_is_not() -> None:
    for trials in (Trials(30.0), Trials(30.0, 60.0), Trials(30.0, folds=5)):
        with pytest.raises(UsageError, match="--minutes 2 ") as error:
            plan(trials, limit=120.0)
        enough = int(str(error.value).partition("give --minutes ")[2].split()[0])
        plan(trials, limit=60.0 * enough)
        with pytest.raises(UsageError):
            plan(trials, limit=60.0 * (enough - 1))
