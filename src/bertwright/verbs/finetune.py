"""Turns a pre-trained encoder and labelled files into a RUN folder with an evaluated model of the task."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from bertwright.config import write_toml
from bertwright.device import on_device
from bertwright.errors import TrainingError, UsageError
from bertwright.files import write_json
from bertwright.flags import with_flags
from bertwright.model.random_state import kept_random_state
from bertwright.nested import merge
from bertwright.reports.finetune_result import task_manifest, task_result, with_tables
from bertwright.reports.html_report import write_task_progress, write_task_report
from bertwright.result import Result
from bertwright.train.callbacks.track import require_tracker
from bertwright.train.checkpoint.task_resume import (
    Finished,
    delete_checkpoints,
    read_finished,
    require_same_run,
    resumed_settings,
    task_identity,
)
from bertwright.train.task_setup.by_task import set_up
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.train.task_setup.seeds import train_seeds
from bertwright.verbs.calls.finetune_flags import (
    FinetuneCall,
    FinetuneFlags,
    finetune_settings,
    fold_settings,
    recipe_settings,
    require_one_split,
)
from bertwright.verbs.calls.finetune_preview import cross_validate, predict_unlabelled, preview_task, warn_of_overlaps
from bertwright.verbs.calls.run_folder import TASK_FILES, held, require_free


@with_flags("finetune", FinetuneCall, FinetuneFlags)
@kept_random_state()
def finetune(
    task: str,
    model: Path | str,
    train: Path | str,
    dev: Path | str | None = None,
    out: Path | str | None = None,
    *,
    test: Path | str | None = None,
    recipe: Path | str | None = None,
    num_seeds: int = 1,
    folds: int | None = None,
    suspects: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[FinetuneFlags],
) -> Result:
    """Train a pre-trained model for a task and write a RUN folder; return what result.json holds.

    The flags are those of the command line; `settings` are nested as in RUN/config.toml, e.g.
    {"watch": {"mistakes": 40}}. Predictions for a `test` file without labels are in RUN/test-predictions.jsonl. A
    `dry_run` returns settings, sizes and disk.

    >>> # trains
    >>> finetune("classify", "runs/en/model", "train.tsv", "dev.tsv", "runs/sst2")["dev"]["accuracy"]  # doctest: +SKIP
    0.91

    Parameters
    ----------
    task
        classify, regress, tag, answer, choose, rank, translate or embed.

    Raises
    ------
    UsageError
        For an invalid call; InputError for files or models that do not fit, and OutputExistsError or BusyError, all
        before anything is written; Interrupted on Ctrl-C, after a checkpoint is saved.
    """
    given = recipe_settings(None if recipe is None else Path(recipe), task, has_dev=dev is not None)
    flag_settings = merge(finetune_settings(task, flags), fold_settings(folds, suspects=suspects))
    settings = merge(given, merge(flag_settings, settings or {}))
    if out is None:
        raise UsageError("no folder was given for the run; name one with --out")
    if num_seeds < 1:
        raise UsageError(f"--num-seeds {num_seeds} trains nothing; give 1 or more")
    require_one_split(dev, settings, seeds=num_seeds)
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")
    out, folder = Path(out), Path(model)
    files = {name: Path(file) for name, file in {"train": train, "dev": dev, "test": test}.items() if file}
    config = resolve_finetune(task, resumed_settings(out, task, settings, seeds=num_seeds) if resume else settings)
    require_tracker(config.watch.track)
    with nullcontext() if dry_run else held(out, locks=True), on_device(config.engine.device):
        if not resume:
            require_free(out, [folder, *files.values()], overwrite=overwrite, files=TASK_FILES)
        setup = set_up(config, folder, files)
        if dry_run:
            return preview_task(setup, out, seeds=num_seeds)
        overlaps, identity, finished = warn_of_overlaps(setup), task_identity(setup, files), Finished()
        if resume:
            require_same_run(out, identity)
            finished = read_finished(out, setup)
        left = [] if config.split.folds else finished.left(range(setup.config.seed, setup.config.seed + num_seeds))
        first = setup.new_model(left[0]) if left else None
        if overwrite:
            needed = [folder, *setup.files_read(files).values()]
            require_free(out, needed, overwrite=True, clear=True, files=TASK_FILES)
        write_toml(out / "config.toml", setup.config)
        manifest = {**task_manifest(setup, files, seeds=num_seeds), "overlaps": overlaps, "identity": identity}
        write_json(out / "manifest.json", manifest)
        if config.split.folds:
            best, figures = cross_validate(setup, out, files, identity=identity)
        else:
            page = partial(write_task_progress, out, task=task, metric=setup.metric)
            best = train_seeds(setup, out, num_seeds, first=first, finished=finished, identity=identity, page=page)
            figures = task_result(setup, files, best, finished.seed_results)
        best.setup.save(best.model, out / "model", name=out.name, figures=figures)
        predict_unlabelled(setup, out, figures)
        write_json(out / "result.json", figures)
        write_task_report(out, best.results)
        delete_checkpoints(out)
        result = with_tables(figures, best.results)
        if best.diverged is not None:
            error = TrainingError(f"{best.diverged}; {out / 'model'} is that of step {best.best_step:,}, before that")
            error.result = result
            raise error
        return result
