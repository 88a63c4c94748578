"""Turns the words of a call of `tune` into what each process of its study makes its trials from."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bertwright.config import OneOf, Range
from bertwright.device import machine, pick_device
from bertwright.errors import ModelError
from bertwright.files import read_json, write_json
from bertwright.log import Facts, note
from bertwright.result import Result
from bertwright.search.clock import StudyClock
from bertwright.search.search_console import SearchConsole
from bertwright.search.shared_study import SharedStudy
from bertwright.search.task_trials import ModelSpeed, TaskTrials
from bertwright.search.time_plan import TimePlan, plan_time
from bertwright.search.trials import Search
from bertwright.system import wanted_threads
from bertwright.train.checkpoint.folder import first_difference
from bertwright.verbs.calls.pretrain_trials import PretrainTrials
from bertwright.verbs.calls.tune_flags import PRETRAIN

STUDY = "study.json"
"""What a study was begun with: what must stay the same, the speed of its models, and how its time is divided."""


@dataclass(frozen=True)
class StudyCall:
    """A call of `tune`, its settings resolved.

    settings  nested, what all trials share
    seeds     that the winner is trained with
    """

    task: str
    out: str
    models: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 30.0
    seeds: int = 3
    folds: int = 0
    processes: int = 1
    trials: int | None = None

    def to_json(self) -> str:
        """Return it as a line for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> StudyCall:
        """Return what `to_json` wrote."""
        return cls(**json.loads(line))

    @property
    def threads(self) -> int:
        """Threads of each process of the search."""
        return max(1, wanted_threads() // self.processes)

    def tunable(self) -> TaskTrials | PretrainTrials:
        """Return what is tuned, its files read and encoded; raises what `finetune` or `pretrain` would raise."""
        if self.task == PRETRAIN:
            return PretrainTrials(list(map(Path, self.data)), Path(self.out), self.recipe, self.settings)
        files = {name: Path(file) for name, file in self.files.items()}
        return TaskTrials(self.task, list(map(Path, self.models)), files, self.settings, folds=self.folds)


def measured(call: StudyCall, tunable: TaskTrials | PretrainTrials, *, spent: float) -> dict[str, Any]:
    """Measure what is tuned, divide the time of the study, of which so much is spent, and return both.

    Raises UsageError where the time is too short.
    """
    limit = 60 * call.minutes
    began = time.perf_counter()
    note("measuring how fast a step is here ...")
    if isinstance(tunable, PretrainTrials):
        tunable.measure(limit=limit, spent=spent, seeds=call.seeds, processes=call.processes, threads=call.threads)
        return {"each_minutes": tunable.minutes, "runs": 1}
    speeds = tunable.measure(each=call.threads, alone=wanted_threads())
    spent += time.perf_counter() - began
    plan = plan_time(tunable, limit=limit, spent=spent, seeds=call.seeds, processes=call.processes)
    return {"speeds": {name: asdict(one) for name, one in speeds.items()}, **asdict(plan)}


def begin(call: StudyCall, tunable: TaskTrials | PretrainTrials, *, spent: float) -> int:
    """Begin the study of a folder, or take over how another process began it; return the runs of a trial.

    Raises ModelError where it was begun with something else, and UsageError where its time is too short.
    """
    file = Path(call.out) / STUDY
    identity = json.loads(json.dumps(tunable.identity(), default=str))
    if not file.is_file():
        plan = measured(call, tunable, spent=spent)
        write_json(file, {"identity": identity, "plan": plan, "machine": machine(pick_device())})
    kept = read_json(file)
    other = first_difference(kept["identity"], identity) or first_difference(identity, kept["identity"])
    if other is not None:
        name = other[0]
        raise ModelError(
            f"the study in {call.out} was begun with another value of {name}; give the same to go on with it, or "
            "another --out"
        )
    plan = kept["plan"]
    if isinstance(tunable, PretrainTrials):
        tunable.minutes = float(plan["each_minutes"])
    else:
        tunable.speeds = {name: ModelSpeed(**one) for name, one in plan["speeds"].items()}
        tunable.limit_epochs(TimePlan(plan["runs"], plan["most_epochs"]).most_epochs)
    return int(plan["runs"])


def search(
    call: StudyCall, tunable: TaskTrials | PretrainTrials, shared: SharedStudy, clock: StudyClock, *, runs: int
) -> Search:
    """Run the trials of this process until the time is up, on its part of the cores; return the search."""
    console, before = SearchConsole(), torch.get_num_threads()
    torch.set_num_threads(call.threads)
    found = Search(shared, tunable, clock, console, runs=runs, seeds=call.seeds, most=call.trials)
    try:
        found.go()
    finally:
        torch.set_num_threads(before)
        console.close()
    return found


def preview_study(call: StudyCall, tunable: TaskTrials | PretrainTrials, *, spent: float) -> Result:
    """Return what a study would be: what is searched, how fast the models are, and how its time is divided."""
    plan = measured(call, tunable, spent=spent)
    usual = tunable.first[0]
    if isinstance(tunable, TaskTrials):
        tunable.limit_epochs(plan["most_epochs"])
    run = tunable.run_seconds(usual)
    winner = call.seeds * tunable.retraining_seconds(usual)
    count = int(call.processes * (60 * call.minutes - spent - winner) / run)
    figures = {"task": call.task, "space": {name: asdict(one) for name, one in tunable.space.items()}, **plan}
    figures |= {"run_seconds": round(run, 1), "winner_seconds": round(winner, 1), "runs_in_time": count}
    facts = {name: described_range(one) for name, one in tunable.space.items()}
    time_of = {
        "a run of the defaults": f"{run:.0f} s",
        f"the winner, {call.seeds} seeds of the defaults": f"{winner:.0f} s",
        "runs there is time for": f"{count}, of the length of the defaults; {plan['runs']} a trial",
    }
    return Result(figures, Facts(f"dry run: tune {call.task} would search", facts), Facts("time", time_of))


def described_range(one: Range) -> str:
    """Return a range in words."""
    times = {"": "", "default": " times the default", "layers": " of the blocks"}[one.times]
    if isinstance(one, OneOf):
        return f"{', '.join('none' if value is None else str(value) for value in one.values)}{times}"
    return f"{one.low:g} to {one.high:g}{times}"
