"""Turns models, labelled files and some minutes into a study: settings and a model that do better than the defaults."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from bertwright.device import on_device
from bertwright.errors import TrainingError, UsageError
from bertwright.files import clear_output, locked, map_os_errors, refuse_existing
from bertwright.flags import with_flags
from bertwright.log import note
from bertwright.model.random_state import kept_random_state
from bertwright.nested import merge
from bertwright.result import Result
from bertwright.search.clock import StudyClock
from bertwright.search.shared_study import PROCESSES, opened
from bertwright.verbs.calls.finetune_flags import FinetuneFlags, recipe_settings
from bertwright.verbs.calls.study_call import STUDY, StudyCall, begin, preview_study, search
from bertwright.verbs.calls.study_winner import finish
from bertwright.verbs.calls.tune_flags import PRETRAIN, TuneCall, tune_settings
from bertwright.verbs.calls.tune_worker import device_of, helpers

STUDY_FILES = (
    STUDY, "study.db", "study.db-journal", PROCESSES, "runs", "winner", "result.json", "report.html", "recipe.toml",
    ".study.lock", ".winner.lock",
)  # fmt: skip
"""What the folder of a study holds."""
WAIT_SECONDS = 1.0
"""Seconds between two looks at whether other processes are done."""


@with_flags("tune", TuneCall, FinetuneFlags)
@kept_random_state()
def tune(
    task: str,
    *,
    out: Path | str,
    model: Path | str | Sequence[Path | str] = (),
    train: Path | str | None = None,
    dev: Path | str | None = None,
    test: Path | str | None = None,
    data: Path | str | Sequence[Path | str] = (),
    recipe: Path | str | None = None,
    minutes: float = 30.0,
    num_seeds: int | None = None,
    folds: int = 0,
    processes: int = 1,
    trials: int | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[FinetuneFlags],
) -> Result:
    """Search settings and models for a task, or settings of pre-training; return what result.json of the study holds.

    The flags, which are those of `finetune`, and `settings`, nested as in its recipes, hold for all trials: what they
    fix is not searched. The study is a folder; the same call goes on with it.

    >>> # trains for half an hour
    >>> study = tune("classify", model=["a", "b"], train="train.tsv", out="study")  # doctest: +SKIP
    >>> study["winner"]["settings"]  # doctest: +SKIP
    {'optimizer.learning_rate': 0.00021, 'batches.rows': 16, 'schedule.epochs': 6, 'transfer.layer_decay': 0.9}

    Parameters
    ----------
    task
        classify, regress, tag, answer, choose, translate, embed, or pretrain.

    Raises
    ------
    UsageError
        For an invalid call, or too few minutes; InputError for files or models that do not fit, ModelError where the
        folder holds a study of something else, and OutputExistsError, all before anything is written; TrainingError
        where no trial came to its end, and Interrupted on Ctrl-C.
    """
    began = time.perf_counter()
    given = tune_settings(task, flags)
    if task != PRETRAIN:
        file = None if recipe is None else Path(recipe)
        given = merge(recipe_settings(file, task, has_dev=dev is not None), given)
    call = study_call(
        task, merge(given, settings or {}), out=out, model=model, data=data, recipe=recipe, minutes=minutes,
        folds=folds, num_seeds=num_seeds, processes=processes, trials=trials,
        files={"train": train, "dev": dev, "test": test},
    )  # fmt: skip
    folder = Path(out)
    with on_device(device_of(call)):
        if not (overwrite or dry_run or (folder / STUDY).is_file()):
            refuse_existing(folder, instead="give another --out, or --overwrite to replace it")
        tunable = call.tunable()
        if dry_run:
            return preview_study(call, tunable, spent=time.perf_counter() - began)
        if overwrite:
            clear_study(folder, call)
        folder.mkdir(parents=True, exist_ok=True)
        with map_os_errors(folder):
            runs = begin(call, tunable, spent=time.perf_counter() - began)
            with opened(folder, tunable) as shared:
                clock = StudyClock(shared.study, 60 * minutes, began=began)
                with helpers(call):
                    found = search(call, tunable, shared, clock, runs=runs)
                while shared.others_work() and clock.left > 0:
                    time.sleep(WAIT_SECONDS)
                if shared.best() is None:
                    raise TrainingError(
                        f"no trial came to its end in {minutes:g} minutes; give more --minutes, and the study in "
                        f"{folder} goes on"
                    )
                return finish(call, tunable, shared, clock, found)


def study_call(
    task: str,
    settings: Mapping[str, Any],
    *,
    out: Path | str,
    model: Path | str | Sequence[Path | str],
    data: Path | str | Sequence[Path | str],
    recipe: Path | str | None,
    minutes: float,
    num_seeds: int | None,
    folds: int,
    processes: int,
    trials: int | None,
    files: Mapping[str, Path | str | None],
) -> StudyCall:
    """Return a call whose words are checked against one another; raises UsageError."""
    models, folders = ([str(one)] if isinstance(one, (str, Path)) else list(map(str, one)) for one in (model, data))
    pretrains = task == PRETRAIN
    seeds = (1 if pretrains else 3) if num_seeds is None else num_seeds
    named = {name: str(file) for name, file in files.items() if file}
    for flag, value, least in (("--num-seeds", seeds, 1), ("--processes", processes, 1), ("--trials", trials, 1)):
        if value is not None and value < least:
            raise UsageError(f"{flag} {value} makes no study; give {least} or more")
    if not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} is no time; give 30, or more for large files")
    if folds and (folds < 2 or "dev" in named):
        why = "is no cross-validation; give 5" if folds < 2 else "takes dev from the training file; leave --dev out"
        raise UsageError(f"--folds {folds} {why}")
    if len(set(models)) < len(models):
        raise UsageError("--model names a folder twice; give each once")
    if pretrains and (models or named or folds or not folders):
        raise UsageError("tune pretrain takes --data DATA, and no --model, --train, --dev, --test and --folds")
    if not pretrains and (not models or "train" not in named or folders):
        raise UsageError(f"tune {task} takes --model MODEL, as often as you like, and --train FILE, and no --data")
    return StudyCall(
        task=task, out=str(out), models=tuple(models), files=named, data=tuple(folders), recipe=str(recipe or ""),
        settings=settings, minutes=minutes, seeds=seeds, folds=folds, processes=processes, trials=trials,
    )  # fmt: skip


def clear_study(folder: Path, call: StudyCall) -> None:
    """Delete an earlier study in a folder; raises BusyError where a process works on it, and OutputExistsError."""
    for owner in sorted((folder / PROCESSES).glob("*")):
        with locked(owner):
            pass
    clear_output(folder, ours=STUDY_FILES, needed=[*call.models, *call.files.values(), *call.data])
    note(f"an earlier study in {folder}, if any, is deleted")
