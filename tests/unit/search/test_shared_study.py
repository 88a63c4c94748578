"""A study shared by processes: what a killed one left is begun again, others are waited for, time is counted once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from optuna.trial import TrialState, create_trial

from bertwright.config import Between, OneOf, Range
from bertwright.errors import TrainingError
from bertwright.search.base import ROWS, Params, Run, Tunable
from bertwright.search.clock import OutOfTimeError, StudyClock
from bertwright.search.finals import FINALISTS, ROUNDS, winner
from bertwright.search.outcome import importance, study_figures
from bertwright.search.search_console import SearchConsole
from bertwright.search.shared_study import RUNS, WHY, SharedStudy, opened, runs_of
from bertwright.search.space import distribution_of
from bertwright.search.trials import Search
from bertwright.train.callbacks.base import Callback


@dataclass
class Clock:
    """A clock that a run puts on by what it takes."""

    time: float = 0.0

    def __call__(self) -> float:
        return self.time


class Hill(Tunable):
    """A figure that is known: the higher, the nearer x is to 0.7; run n of all trials is harder by the same noise."""

    metric, sign, usual = "height", 1, 1
    space: ClassVar[Mapping[str, Range]] = {"x": Between(0.0, 1.0), "kind": OneOf(("a", "b"))}
    first: ClassVar[Sequence[dict[str, Any]]] = [{"x": 0.2, "kind": "a"}, {"x": 0.5, "kind": "a"}]
    seconds = 1.0

    def __init__(self, figure: Callable[[Params, int], float] | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.figure = figure or (lambda params, number: 1 - abs(params["x"] - 0.7) - 0.01 * number)
        self.done: list[tuple[float, int]] = []

    def settings(self, params: Params) -> dict[str, Any]:
        return {"top": dict(params)}

    def model(self, params: Params) -> str:
        return "hill"

    def run_seconds(self, params: Params) -> float:
        return self.seconds

    def retraining_seconds(self, params: Params) -> float:
        return 2 * self.seconds

    def run(self, params: Params, number: int, watch: Callback) -> Run:
        height = self.figure(params, number)
        self.clock.time += self.seconds
        self.done.append((params["x"], number))
        return Run(height, tuple(height + 0.001 * part for part in range(8)), self.seconds)


def search_of(shared: SharedStudy, hill: Hill, **given: Any) -> Search:
    clock = StudyClock(shared.study, given.pop("limit", 1e6), began=0.0, now=hill.clock)
    return Search(shared, hill, clock, SearchConsole(), runs=given.pop("runs", 3), seeds=1, **given)


@pytest.mark.parametrize(("top", "tried"), [(0.2, [0.2, 0.4, 0.1]), (0.7, [0.2, 0.4, 0.6])])
def test_what_goes_on_from_worse_than_the_defaults_is_left_out(tmp_path: Path, top: float, tried: list[float]) -> None:
    hill = Hill(lambda params, number: -abs(params["x"] - top) - 0.01 * number)
    hill.first = [{"x": x, "kind": "a"} for x in (0.2, 0.4, 0.6, 0.1)]
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, most=3).go()
    assert [x for x, number in hill.done if number == 0] == tried


def test_the_defaults_are_first_and_the_best_whole_trial_wins(tmp_path: Path) -> None:
    hill = Hill()
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, most=6).go()
        trials, best = shared.tried(), shared.best()
        figures = study_figures(shared, hill)
    assert len(trials) == 6
    assert [one.params["x"] for one in trials[:2]] == [0.2, 0.5]
    assert trials[0].state == TrialState.COMPLETE
    assert best is not None
    whole = [one for one in trials if one.state == TrialState.COMPLETE]
    assert best.value == max(one.value for one in whole if one.value is not None)
    assert figures["winner"]["trial"] == best.number
    assert figures["defaults"]["trial"] == 0
    assert figures["winner"]["dev"] >= figures["defaults"]["dev"]


def test_trials_worse_on_all_pairs_are_stopped_after_a_run_and_close_ones_are_not(tmp_path: Path) -> None:
    """Worse on all 8 parts of dev: p is 1/256. As good as the best but for noise of both signs, p is not below 0.1."""
    hill = Hill(lambda params, number: 0.8 if params["kind"] == "a" else 0.2)
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, most=10).go()
        trials = shared.tried()
    of_kind = {kind: [one for one in trials if one.params["kind"] == kind] for kind in ("a", "b")}
    assert len(of_kind["a"]) > 2
    assert all(one.state == TrialState.COMPLETE and len(runs_of(one)) == 3 for one in of_kind["a"])
    assert all(one.state == TrialState.PRUNED and len(runs_of(one)) == 1 for one in of_kind["b"])


def test_time_is_kept_back_for_the_winner(tmp_path: Path) -> None:
    """Of 10 s, runs of 1 s and a seed of 2 s, each with a margin of a tenth: no run begins with 3.3 s left or less.

    A third of what is left beside the seed is for the finals, 2.6 s: no trial begins with 5.9 s left or less.
    """
    hill = Hill()
    with opened(tmp_path, hill) as shared:
        found = search_of(shared, hill, limit=10.0, runs=1)
        found.go()
        assert len(shared.tried()) == 5
        assert [number for _, number in hill.done[5:]] == [1, 1]
        assert found.clock.left == 3.0
        assert found.kept_seconds() == pytest.approx(2.2)


def test_how_long_a_run_takes_is_known_by_those_with_the_same_batch_size(tmp_path: Path) -> None:
    """Runs with half the batch take twice as long, which the estimate of a run does not know."""
    hill = Hill()
    hill.space = {"x": Between(0.0, 1.0), ROWS: OneOf((0.5, 1.0))}
    hill.first = [{"x": 0.2, ROWS: 1.0}, {"x": 0.3, ROWS: 0.5}, {"x": 0.4, ROWS: 1.0}]
    done = hill.run
    hill.run = lambda params, number, watch: replace(done(params, number, watch), seconds=1 / params[ROWS])  # type: ignore[method-assign]
    with opened(tmp_path, hill) as shared:
        found = search_of(shared, hill, runs=1, most=1)
        found.go()
        assert found.run_seconds({"x": 0.1, ROWS: 0.5}) == pytest.approx(1.1)
        later = search_of(shared, hill, runs=1, most=3)
        later.go()
    assert found.run_seconds({"x": 0.1, ROWS: 0.5}) == pytest.approx(2.2)
    assert found.run_seconds({"x": 0.1, ROWS: 1.0}) == pytest.approx(1.1)


def test_where_there_is_no_time_for_two_more_runs_the_search_alone_chooses(tmp_path: Path) -> None:
    hill = Hill()
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, limit=8.0, runs=1).go()
        assert len(shared.tried()) == 5
        assert {number for _, number in hill.done} == {0}
        chosen, best = winner(shared), shared.best()
    assert chosen is not None
    assert best is not None
    assert chosen.number == best.number


def test_finalists_have_new_seeds_and_lucky_trials_lose(tmp_path: Path) -> None:
    """A seed made a trial look better than the defaults: its further runs say what it is, and the defaults win."""
    hill = Hill(lambda params, number: 0.5 + (params["x"] == 0.5) * (0.3 if number == 0 else -0.1))
    with opened(tmp_path, hill) as shared:
        found = search_of(shared, hill, limit=1000.0, runs=1, most=4)
        found.go()
        figures = study_figures(shared, hill)
        chosen, best = winner(shared), shared.best()
    assert best is not None
    assert chosen is not None
    assert best.params["x"] == 0.5
    assert chosen.params["x"] == 0.2
    assert figures["winner"]["defaults"]
    assert figures["winner"]["further"] == [0.5] * ROUNDS
    again = [(x, number) for x, number in hill.done if number > 0]
    assert len(again) == FINALISTS * ROUNDS
    assert sorted({number for _, number in again}) == [1, 2, 3]
    assert {0.2, 0.5} < {x for x, _ in again}
    assert found.first_new_seed == 4


def test_a_finalist_that_fails_makes_room_for_the_next(tmp_path: Path) -> None:
    def figure(params: Params, number: int) -> float:
        if params["x"] == 0.5 and number == 2:
            raise TrainingError("the run diverged")
        return 1 - abs(params["x"] - 0.5)

    hill = Hill(figure)
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, runs=1, most=6).go()
        figures = study_figures(shared, hill)
        assert shared.failed() == {1}
    assert [len(one["further"]) for one in figures["trials"] if one["drawn"]["x"] == 0.5] == [1]
    assert figures["winner"]["drawn"]["x"] != 0.5
    assert sorted(len(one["further"]) for one in figures["trials"])[-FINALISTS:] == [ROUNDS] * FINALISTS


def test_a_run_of_the_finals_that_a_killed_process_had_is_done_by_the_next(tmp_path: Path) -> None:
    hill = Hill()
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, limit=9.9, runs=1).go()
        trial = shared.ranked()[0]
        shared.claim(trial, 2)
        assert shared.taken(trial) == {0, 2}
    with opened(tmp_path, hill) as later:
        assert later.taken(trial) == {0}
        assert not later.others_work()
        later.claim(trial, 1)
        with opened(tmp_path, hill) as other:
            assert other.others_work()
            assert other.taken(trial) == {0, 1}
        later.keep_further(trial, 1, Run(0.5, (0.5,), 1.0))
        assert not other.others_work()
        assert [run.figure for run in later.further_runs(trial.number)][1] == 0.5


def test_a_run_that_fails_or_has_no_time_ends_its_trial_alone(tmp_path: Path) -> None:
    def figure(params: Params, number: int) -> float:
        if params["x"] == 0.5:
            raise TrainingError("the run diverged")
        if number == 2 and params["x"] != 0.2:
            raise OutOfTimeError
        return 0.5

    hill = Hill(figure)
    with opened(tmp_path, hill) as shared:
        search_of(shared, hill, most=3).go()
        ended = {one.params["x"]: one for one in shared.trials(TrialState.COMPLETE, TrialState.PRUNED)}
    assert ended[0.2].state == TrialState.COMPLETE
    assert ended[0.5].state == TrialState.PRUNED
    assert ended[0.5].user_attrs[WHY] == "the run diverged"
    others = [one for x, one in ended.items() if x not in (0.2, 0.5)]
    assert len(others) == 2
    assert all(one.state == TrialState.PRUNED and len(runs_of(one)) == 2 for one in others)


def test_a_killed_process_leaves_its_runs_to_the_next(tmp_path: Path) -> None:
    """It takes the first trial, writes a run of it down, and is killed as by kill -9, with its lock."""
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_shared_study import Hill
from bertwright.search.shared_study import RUNS, opened
hill = Hill()
with opened(Path({str(tmp_path)!r}), hill) as shared:
    trial = shared.ask(hill.space)
    trial.set_user_attr(RUNS, [hill.run(trial.params, 0, None).as_json()])
    print(trial.number, flush=True)
    sys.stdin.readline()
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline().strip() == "0"
    hill = Hill()
    with opened(tmp_path, hill) as shared:
        assert shared.others_work()
        assert shared.recover() == 0
        process.kill()
        process.wait()
        assert not shared.others_work()
        search_of(shared, hill, most=3).go()
        first = [one for one in shared.tried() if one.params["x"] == 0.2]
        assert len(first) == 1
        assert first[0].state == TrialState.COMPLETE
        assert len(first[0].user_attrs[RUNS]) == 3
        assert [number for x, number in hill.done if x == 0.2][:2] == [1, 2]
        assert shared.study.trials[0].state == TrialState.FAIL
        assert first[0].user_attrs["usual"]
    process.stdin.close()
    process.stdout.close()


def test_processes_at_once_count_the_same_seconds(tmp_path: Path) -> None:
    now = Clock()
    with opened(tmp_path, Hill()) as shared:
        one = StudyClock(shared.study, 100.0, began=0.0, now=now)
        now.time = 30.0
        one.keep()
        other = StudyClock(shared.study, 100.0, began=30.0, now=now)
        now.time = 50.0
        other.tick()
        one.tick()
        assert one.spent == other.spent == 50.0
        later = StudyClock(shared.study, 100.0, began=1000.0, now=Clock(1000.0))
        assert later.left == 50.0


def test_what_matters_is_found() -> None:
    hill, random = Hill(), np.random.default_rng(0)
    distributions = {name: distribution_of(one) for name, one in hill.space.items()}
    tried = []
    for _ in range(16):
        params = {"x": random.random(), "kind": str(random.choice(["a", "b"]))}
        runs = [hill.run(params, 0, Callback()).as_json()]
        tried.append(create_trial(params=params, distributions=distributions, value=0.0, user_attrs={RUNS: runs}))
    shares = importance(tried, hill)
    assert list(shares) == ["x", "kind"]
    assert shares["x"] > 0.7
    assert sum(shares.values()) == pytest.approx(1.0)
    assert importance(tried[:3], hill) == {}
