"""Turns a pre-trained encoder and labelled files into a RUN folder with an evaluated model of the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Unpack

from bertwright.config import merge, write_toml
from bertwright.device import on_device
from bertwright.errors import TrainingError, UsageError
from bertwright.files import locked, map_os_errors, write_json
from bertwright.flags import with_flags
from bertwright.log import note
from bertwright.model.random_state import kept_random_state
from bertwright.reports.finetune_html import write_task_report
from bertwright.reports.finetune_result import print_figures, task_manifest, task_result
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.examples import overlap_sentences, overlaps_of
from bertwright.train.checkpoint.task_resume import (
    Finished,
    delete_checkpoints,
    read_finished,
    require_same_run,
    resumed_settings,
    task_identity,
)
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.by_task import set_up
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.train.task_setup.seeds import train_seeds
from bertwright.verbs.calls.finetune_flags import FinetuneFlags, finetune_settings
from bertwright.verbs.calls.finetune_preview import preview_task, require_free_folder
from bertwright.verbs.predict import ask, write_answers


@with_flags("finetune", FinetuneFlags)
@kept_random_state()
def finetune(
    task: str,
    model: Path | str,
    train: Path | str,
    dev: Path | str | None = None,
    out: Path | str | None = None,
    *,
    test: Path | str | None = None,
    num_seeds: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[FinetuneFlags],
) -> dict[str, Any]:
    """Fine-tune the encoder of a MODEL folder on a task and write a RUN folder; return what result.json holds.

    Without `dev` a share of the training file is held out instead (`dev_fraction`), by a hash of its texts. A `test`
    file without labels is answered instead, in RUN/test-predictions.jsonl.

    Each of `num_seeds` seeds is trained, mean and standard deviation are reported, and the best on dev is kept. `flags`
    are those of the command line; `settings` are nested as in RUN/config.toml, e.g. {"watch": {"mistakes": 40}}. With
    `resume` an interrupted run in `out` goes on as if nothing had been; `overwrite` deletes the run in `out` when the
    new one is about to begin. A `dry_run` writes nothing, and prints and returns settings, sizes and disk.

    Raises UsageError for an invalid call, InputError for files or models that do not fit, and OutputExistsError or
    BusyError, all before anything is written; Interrupted on Ctrl-C, after a checkpoint is saved.

    >>> finetune("classify", "runs/en/model", "train.tsv", "dev.tsv", "runs/sst2")["dev"]["accuracy"]
    0.91
    """
    settings = merge(finetune_settings(task, flags), settings or {})
    refuse_contradictions(out, settings, num_seeds=num_seeds, dev=dev, resume=resume, overwrite=overwrite)
    out, folder = Path(str(out)), Path(model)
    settings = resumed_settings(out, task, settings, seeds=num_seeds) if resume else settings
    files = {name: Path(file) for name, file in {"train": train, "dev": dev, "test": test}.items() if file}
    config = resolve_finetune(task, settings)
    with held_folder(out, writes=not dry_run), on_device(config.engine.device):
        if not resume:
            require_free_folder(out, [folder, *files.values()], overwrite=overwrite)
        setup = set_up(config, folder, files)
        if dry_run:
            return preview_task(setup, out, seeds=num_seeds)
        overlaps = warn_of_overlaps(setup)
        identity, finished = task_identity(setup, files), Finished()
        if resume:
            require_same_run(out, identity)
            finished = read_finished(out, setup)
        left = finished.left(range(setup.config.seed, setup.config.seed + num_seeds))
        first = setup.new_model(left[0]) if left else None
        if overwrite:
            require_free_folder(out, [folder, *setup.files_read(files).values()], overwrite=True, clear=True)
        write_toml(out / "config.toml", setup.config)
        manifest = {**task_manifest(setup, files, seeds=num_seeds), "overlaps": overlaps, "identity": identity}
        write_json(out / "manifest.json", manifest)
        best = train_seeds(setup, out, num_seeds, first=first, finished=finished, identity=identity)
        figures = task_result(setup, files, best, finished.seed_results)
        best.setup.save(best.model, out / "model", name=out.name, figures=figures)
        predict_unlabelled(setup, out, figures)
        write_json(out / "result.json", figures)
        write_task_report(out, best.results)
        delete_checkpoints(out)
        print_figures(figures, best.results)
        if best.diverged is not None:
            raise TrainingError(f"{best.diverged}; {out / 'model'} is that of step {best.best_step:,}, before that")
        return figures


def refuse_contradictions(
    out: Path | str | None, settings: Mapping[str, Any], *, num_seeds: int, dev: Any, resume: bool, overwrite: bool
) -> None:
    """Raise UsageError where what is given to a call does not fit together."""
    if out is None:
        raise UsageError("no folder was given for the run; name one with --out")
    if num_seeds < 1:
        raise UsageError(f"--num-seeds {num_seeds} trains nothing; give 1 or more")
    if dev is not None and "split" in settings:
        raise UsageError("--dev and --dev-fraction cannot both be given; leave one out")
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")


@contextmanager
def held_folder(out: Path, *, writes: bool) -> Iterator[None]:
    """Hold the folder of a run that `writes` there, and say in a sentence what cannot be written."""
    kept = ", then go on with --resume: the last whole checkpoint is untouched"
    with locked(out) if writes else nullcontext(), map_os_errors(out, saved=kept):
        yield


def warn_of_overlaps(setup: TaskSetup) -> dict[str, dict[str, int]]:
    """Note how many examples of dev and test stand in train, or in one another, and return the counts."""
    examples = {name: split.examples for name, split in setup.splits.items()}
    overlaps = overlaps_of(examples)
    for sentence in overlap_sentences(overlaps, {name: len(part) for name, part in examples.items()}):
        note(f"warning: {sentence}")
    return overlaps


def predict_unlabelled(setup: TaskSetup, out: Path, figures: dict[str, Any]) -> None:
    """Write what the model of a run predicts of files without labels, and name the files in its figures."""
    model = out / "model"
    for name, unlabelled in setup.unlabelled.items():
        file = out / f"{name}-predictions.jsonl"
        columns = ColumnsConfig(text=unlabelled.text, pair=unlabelled.pair, encoding=setup.config.columns.encoding)
        answers, read = ask(model, (), pair=False, input=unlabelled.path, columns=columns, top_k=1, precision="auto")
        count = write_answers(answers, file, read=read)
        figures[f"{name}_predictions"] = file.name
        note(
            f"{unlabelled.path} has no labels, so there are no figures of {name}: {count:,} predictions are in {file}; "
            f"for other files: bertwright predict --model {model} --input FILE --output predictions.jsonl"
        )
