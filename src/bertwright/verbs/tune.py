"""Turns models, labelled files and some minutes into a study: settings and a model that do better than the defaults."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Unpack

from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.model.random_state import kept_random_state
from bertwright.nested import merge
from bertwright.result import Result
from bertwright.verbs.calls.finetune_flags import FinetuneFlags, recipe_settings
from bertwright.verbs.calls.tuning.study_call import study_call
from bertwright.verbs.calls.tuning.tune_flags import PRETRAIN, TuneCall, tune_settings


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
    size: str | None = None,
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
        classify, regress, tag, answer, choose, rank, translate, embed, or pretrain.

    Raises
    ------
    UsageError
        For an invalid call, or too few minutes; InputError for files or models that do not fit, ModelError where the
        folder holds a study of something else, and OutputExistsError, all before anything is written; TrainingError
        where no trial came to its end, and Interrupted on Ctrl-C.
    """
    began = time.perf_counter()
    if find_spec("optuna") is None:
        raise UsageError("tune needs a package; pip install 'bertwright[tune]'")
    given = tune_settings(task, flags, size=size)
    if task != PRETRAIN:
        file = None if recipe is None else Path(recipe)
        given = merge(recipe_settings(file, task, has_dev=dev is not None), given)
    call = study_call(
        task, merge(given, settings or {}), out=out, model=model, data=data, recipe=recipe, minutes=minutes,
        folds=folds, num_seeds=num_seeds, processes=processes, trials=trials,
        files={"train": train, "dev": dev, "test": test},
    )  # fmt: skip
    from bertwright.verbs.calls.tuning.study_run import run_study  # needs optuna

    return run_study(call, overwrite=overwrite, dry_run=dry_run, began=began)
