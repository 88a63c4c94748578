"""Runs a study: begins it or goes on with it, searches in one process or several, and has the winner trained."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from bertwright.config import OneOf, Range
from bertwright.device import machine, on_device, pick_device
from bertwright.errors import Interrupted, ModelError, TrainingError, UsageError
from bertwright.files import LOCK, clear_output, locked, map_os_errors, read_json, refuse_existing, write_json
from bertwright.log import Facts, note
from bertwright.result import Result
from bertwright.search.clock import StudyClock
from bertwright.search.search_console import SearchConsole
from bertwright.search.shared_study import DATABASE, PROCESSES, SharedStudy, opened
from bertwright.search.task_trials import ModelSpeed, TaskTrials
from bertwright.search.time_plan import plan_time
from bertwright.search.trials import Search
from bertwright.stopping import interrupted
from bertwright.system import wanted_threads
from bertwright.train.checkpoint.folder import first_difference
from bertwright.verbs.calls.tuning.pretrain_trials import RUNS, PretrainTrials
from bertwright.verbs.calls.tuning.study_call import StudyCall
from bertwright.verbs.calls.tuning.study_helpers import helpers
from bertwright.verbs.calls.tuning.study_winner import RECIPE, WINNER, WINNER_LOCK, finish
from bertwright.verbs.calls.tuning.tune_flags import PRETRAIN

STUDY = "study.json"
"""What a study was begun with: what must stay the same, the speed of its models, and how its time is divided."""
STUDY_FILES = (
    STUDY, DATABASE, f"{DATABASE}-journal", PROCESSES, RUNS, WINNER, "result.json", "report.html", RECIPE,
    WINNER_LOCK,
)  # fmt: skip
"""What the folder of a study holds."""
WAIT_SECONDS = 1.0
"""Seconds between two looks at whether other processes are done."""


def run_study(call: StudyCall, *, overwrite: bool, dry_run: bool, began: float) -> Result:
    """Return what a study has found when its time is up; it began at `began`, by a clock that cannot be set."""
    folder = Path(call.out)
    with on_device(call.device):
        if not (overwrite or dry_run or (folder / STUDY).is_file()):
            refuse_existing(folder, instead="give another --out, or --overwrite to replace it")
        tunable = tunable_of(call)
        if dry_run:
            return preview_study(call, tunable, spent=time.perf_counter() - began)
        if overwrite:
            clear_study(folder, call)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with map_os_errors(folder):
                return search_and_finish(call, tunable, began=began)
        except (KeyboardInterrupt, Interrupted) as stop:
            message = f"stopped; the same command goes on with the study in {folder}"
            raise type(stop)(message) if isinstance(stop, Interrupted) else interrupted(stop, message) from stop


def search_and_finish(call: StudyCall, tunable: TaskTrials | PretrainTrials, *, began: float) -> Result:
    """Search until the time is up, in as many processes as the call asks for; then have the winner trained."""
    folder = Path(call.out)
    is_new = not (folder / STUDY).is_file()
    try:
        runs = begin(call, tunable, spent=time.perf_counter() - began)
    except UsageError:
        remove_if_empty(folder)
        raise
    with opened(folder, tunable) as shared:
        clock = StudyClock(shared.study, 60 * call.minutes, began=began if is_new else time.perf_counter())
        with helpers(call):
            found = search(call, tunable, shared, clock, runs=runs)
            while shared.others_work() and clock.left > 0:
                time.sleep(WAIT_SECONDS)
        if shared.best() is None:
            raise TrainingError(
                f"no trial came to its end in {call.minutes:g} minutes; give more --minutes, and the study in {folder} "
                "goes on"
            )
        return finish(call, tunable, shared, clock, found)


def remove_if_empty(folder: Path) -> None:
    """Delete a folder that holds a lock alone."""
    if {one.name for one in folder.iterdir()} <= {LOCK}:
        with suppress(OSError):
            (folder / LOCK).unlink(missing_ok=True)
            folder.rmdir()


def tunable_of(call: StudyCall) -> TaskTrials | PretrainTrials:
    """Return what is tuned, its files read and encoded; raises what `finetune` or `pretrain` would raise."""
    if call.task == PRETRAIN:
        return PretrainTrials(list(map(Path, call.data)), Path(call.out), call.recipe, call.settings)
    files = {name: Path(file) for name, file in call.files.items()}
    return TaskTrials(call.task, list(map(Path, call.models)), files, call.settings, folds=call.folds)


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
    with FileLock(file.with_name(LOCK)):
        if not file.is_file():
            plan = measured(call, tunable, spent=spent)
            write_json(file, {"identity": identity, "plan": plan, "machine": machine(pick_device())})
    kept = read_json(file)
    other = first_difference(kept["identity"], identity)
    if other is None and (gone := first_difference(identity, kept["identity"])):
        other = gone[0], gone[2], gone[1]
    if other is not None:
        name, was, now = other
        raise ModelError(
            f"the study in {call.out} was begun with another value of {name} ({was!r:.60}, now {now!r:.60}); give the "
            "same to go on with it, or another --out"
        )
    plan = kept["plan"]
    if isinstance(tunable, PretrainTrials):
        tunable.minutes = float(plan["each_minutes"])
    else:
        tunable.speeds = {name: ModelSpeed(**one) for name, one in plan["speeds"].items()}
        tunable.limit_epochs(plan["most_epochs"])
    return int(plan["runs"])


def search(
    call: StudyCall, tunable: TaskTrials | PretrainTrials, shared: SharedStudy, clock: StudyClock, *, runs: int
) -> Search:
    """Run the trials of this process until the time is up, on its part of the cores; return the search."""
    console, before = SearchConsole(), torch.get_num_threads()
    torch.set_num_threads(call.threads)
    found = Search(
        shared, tunable, clock, console, runs=runs, seeds=call.seeds, most=call.trials, processes=call.processes
    )
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


def clear_study(folder: Path, call: StudyCall) -> None:
    """Delete an earlier study in a folder; raises BusyError where a process works on it, and OutputExistsError."""
    for owner in sorted((folder / PROCESSES).glob("*")):
        with locked(owner):
            pass
    clear_output(folder, ours=STUDY_FILES, needed=[*call.models, *call.files.values(), *call.data])
    note(f"an earlier study in {folder}, if any, is deleted")
