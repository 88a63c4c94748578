"""Turns a pre-trained encoder and labelled files into a RUN folder with a model of the task, judged on dev and test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from bertwright.config import merge, write_toml
from bertwright.device import on_device
from bertwright.errors import DivergedError, TrainingError, UsageError
from bertwright.files import write_json
from bertwright.flags import with_flags
from bertwright.log import note
from bertwright.model.lora import merge_adapters
from bertwright.model.random_state import kept_random_state
from bertwright.reports.finetune_result import better, metric_of, sign_of, tune_manifest, tune_result, with_tables
from bertwright.reports.html_report import write_task_report
from bertwright.reports.predictions import write_predictions
from bertwright.result import Result
from bertwright.system import tune_malloc
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import Embed
from bertwright.tasks.examples import overlap_sentences, overlaps_of
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.translation.task import Translate
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.best import BestCallback, EarlyStop
from bertwright.train.callbacks.console import ConsoleCallback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.evaluation import EvaluateCallback
from bertwright.train.callbacks.metrics_file import MetricsCallback, MetricsWindow
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.callbacks.track import require_tracker, tracking
from bertwright.train.checkpoint.task_resume import (
    Finished,
    forget_checkpoints,
    keep_finished,
    read_finished,
    require_same_run,
    restore_seed,
    resumed_settings,
    task_checkpointing,
    tune_identity,
)
from bertwright.train.interval import Interval
from bertwright.train.loop import train
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.task_setup.embed_task import EmbedTuneConfig, build_embed, resolve_embed
from bertwright.train.task_setup.encoder_tasks import build_finetune
from bertwright.train.task_setup.finetune_config import FinetuneConfig, resolve_finetune
from bertwright.train.task_setup.run_of_task import TrainedRun, Tuning, judge_tuned
from bertwright.train.task_setup.translate_config import TranslateConfig, resolve_translation
from bertwright.train.task_setup.translate_task import build_translation
from bertwright.verbs.calls.finetune_flags import FinetuneCall, FinetuneFlags, finetune_settings
from bertwright.verbs.calls.finetune_preview import preview_task
from bertwright.verbs.calls.run_folder import TASK_FILES, held, require_free
from bertwright.verbs.predict import stream_predictions


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
    num_seeds: int = 1,
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

    >>> finetune("classify", "runs/en/model", "train.tsv", "dev.tsv", "runs/sst2")["dev"]["accuracy"]
    0.91

    Parameters
    ----------
    task
        classify, regress, tag, answer, choose, translate or embed.

    Raises
    ------
    UsageError
        For an invalid call; InputError for files or models that do not fit, and OutputExistsError or BusyError, all
        before anything is written; Interrupted on Ctrl-C, after a checkpoint is saved.
    """
    if out is None:
        raise UsageError("no folder was given for the run; name one with --out")
    if num_seeds < 1:
        raise UsageError(f"--num-seeds {num_seeds} trains nothing; give 1 or more")
    settings = merge(finetune_settings(task, flags), settings or {})
    if dev is not None and "split" in settings:
        raise UsageError("--dev and --dev-fraction cannot both be given; leave one out")
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")
    out = Path(out)
    given = resumed_settings(out, task, settings, seeds=num_seeds) if resume else settings
    require_tracker(resolved(task, given).watch.track)
    files = {name: Path(file) for name, file in {"train": train, "dev": dev, "test": test}.items() if file}
    with nullcontext() if dry_run else held(out, locks=True), on_device(resolved(task, given).engine.device):
        if not resume:
            require_free(out, [Path(model), *files.values()], overwrite=overwrite, files=TASK_FILES)
        parts = build_parts(task, given, Path(model), files)
        metric_of(parts)
        if dry_run:
            return preview_task(parts, out, seeds=num_seeds)
        overlaps = warn_of_overlaps(parts)
        identity = tune_identity(parts, files)
        finished = Finished()
        if resume:
            require_same_run(out, identity)
            finished = read_finished(out, parts)
        if overwrite:
            needed = [Path(model), *parts.files_read(files).values()]
            require_free(out, needed, overwrite=True, clear=True, files=TASK_FILES)
        write_toml(out / "config.toml", parts.config)
        manifest = {**tune_manifest(parts, files, seeds=num_seeds), "overlaps": overlaps, "identity": identity}
        write_json(out / "manifest.json", manifest)
        best = train_seeds(parts, out, num_seeds, finished=finished, identity=identity)
        figures = tune_result(parts, files, best, finished.seen)
        best.parts.save(best.model, out / "model", name=out.name, figures=figures)
        answer_unlabelled(parts, out, figures)
        write_json(out / "result.json", figures)
        write_task_report(out, best.judged)
        forget_checkpoints(out)
        result = with_tables(figures, best.judged)
        if best.diverged is not None:
            error = TrainingError(f"{best.diverged}; {out / 'model'} is that of step {best.best_step:,}, before that")
            error.result = result
            raise error
        return result


def warn_of_overlaps(parts: Tuning) -> dict[str, dict[str, int]]:
    """Say how many examples of dev and test stand in train, or in one another, and return the counts."""
    examples = {name: split.examples for name, split in parts.splits.items()}
    overlaps = overlaps_of(examples)
    for sentence in overlap_sentences(overlaps, {name: len(part) for name, part in examples.items()}):
        note(f"warning: {sentence}")
    return overlaps


def answer_unlabelled(parts: Tuning, out: Path, figures: dict[str, Any]) -> None:
    """Write what the model of a run answers about files without labels, name the way to ask more, and note the file."""
    for name, unlabelled in parts.unlabelled.items():
        file = out / f"{name}-predictions.jsonl"
        columns = ColumnsConfig(text=unlabelled.text, pair=unlabelled.pair, encoding=parts.config.columns.encoding)
        predictions, read = stream_predictions(out / "model", input=unlabelled.path, columns=columns)
        count = write_predictions(predictions, file, file=read)
        figures[f"{name}_predictions"] = file.name
        note(
            f"{unlabelled.path} has no labels, so there are no figures of {name}: {count:,} predictions are in {file}; "
            f"for other files: bertwright predict --model {out / 'model'} --input FILE --output predictions.jsonl"
        )


def build_parts(task: str, settings: Mapping[str, Any], folder: Path, files: dict[str, Path]) -> Tuning:
    """Return the parts of a run of `task`: a decoder for translate, no head for embed, a head for every other."""
    config = resolved(task, settings)
    if isinstance(config, TranslateConfig):
        return build_translation(config, folder, files)
    if isinstance(config, EmbedTuneConfig):
        return build_embed(config, folder, files)
    return build_finetune(config, folder, files)


def resolved(task: str, settings: Mapping[str, Any]) -> FinetuneConfig:
    """Return the settings of a run of `task`, checked as a whole; raises ConfigError."""
    if task == Translate.name:
        return resolve_translation(settings)
    return resolve_embed(settings) if task == Embed.name else resolve_finetune(task, settings)


def train_seeds(parts: Tuning, out: Path, seeds: int, *, finished: Finished, identity: Mapping[str, Any]) -> TrainedRun:
    """Train each seed that is not `finished`, and put it there; return the best one on dev.

    Its metrics become RUN/metrics.jsonl.
    """
    peak = PeakCallback(partial(parts.peak_flops, stretches=2), parts.peak_flops())
    metric = metric_of(parts)
    for seed in range(parts.config.seed, parts.config.seed + seeds):
        if seed in finished.seeds:
            continue
        folder = out if seeds == 1 else out / "seeds" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        tuned = train_one(parts, folder, seed=seed, peak=peak, identity=identity)
        if seeds > 1 and tuned.diverged is not None:
            done = f"; {len(finished.seeds)} seeds before it are kept for --resume" if finished.seeds else ""
            raise TrainingError(f"seed {seed}: {tuned.diverged}{done}") from tuned.diverged
        finished.seen.append({"seed": seed, **{split: judged.figures for split, judged in tuned.judged.items()}})
        if finished.best is None or better(metric, tuned.judged["dev"].figures, finished.best.judged["dev"].figures):
            finished.best = tuned
        if seeds > 1:
            note(f"seed {seed}: {metric} on dev {tuned.judged['dev'].figures[metric]:.4f}")
            keep_finished(out, finished)
            forget_checkpoints(folder)
    assert finished.best is not None
    if seeds > 1:
        shutil.copyfile(out / "seeds" / str(finished.best.seed) / "metrics.jsonl", out / "metrics.jsonl")
    return finished.best


def train_one(parts: Tuning, folder: Path, *, seed: int, peak: PeakCallback, identity: Mapping[str, Any]) -> TrainedRun:
    """Train one seed to the end of its schedule or of its patience, and judge it at its best evaluation.

    It starts where a checkpoint in `folder` says that it stands, if there is one.
    """
    began = time.perf_counter()
    model, window = parts.fresh_model(seed), MetricsWindow()
    (state, objective, engine), loader = parts.begin(model, seed), parts.batches(seed)
    progress, best = state.progress, keeper(parts, model)
    console = ConsoleCallback(partial(figure_names, positive=getattr(parts.task, "positive", None)))
    restore_seed(folder, state, best, seed=seed, identity=identity)
    metrics = tuning_metrics(parts, folder, window, loader.schedule, peak=peak)
    checkpoint = task_checkpointing(parts, folder, state, identity=identity, seed=seed)
    trackers = tracking(parts.config.watch.track, folder, parts.config.model_dump(mode="json"))
    callbacks: list[Callback] = [window, dev_evaluation(parts, model), peak, DivergenceCallback(model, window), best]
    callbacks += [metrics, console, *trackers, EndIfDiverged(), *parts.callbacks(model), checkpoint, EarlyStop(best)]
    model.train()
    if not progress.step:
        progress.seconds = progress.setup_seconds = time.perf_counter() - began
    diverged: DivergedError | None = None
    try:
        with tune_malloc(), checkpoint.listening_for_signals():
            if not best.exhausted:
                train(state, loader, objective, callbacks, engine=engine)
            checkpoint.saver.wait()
    except DivergedError as error:
        if not best.figures:
            raise
        diverged = error
    finally:
        console.close()
        checkpoint.saver.close()
        for tracker in trackers:
            tracker.close()
    best.load_best()
    merge_adapters(model)
    return judge_tuned(parts, model, seed=seed, best_step=best.step, progress=progress, diverged=diverged)


def dev_evaluation(parts: Tuning, model: nn.Module) -> EvaluateCallback:
    """Return the callback that evaluates the model on dev along the run."""
    watch = parts.config.watch
    times = max(1, round(parts.config.schedule.epochs * watch.evaluations))
    every = None if watch.evaluate_every is None else Interval.parse(watch.evaluate_every)
    return EvaluateCallback(held_out=lambda: parts.judge_along(model), samples=list, times=times, every=every)


def keeper(parts: Tuning, model: nn.Module) -> BestCallback:
    """Return the callback that keeps the best weights."""
    metric = metric_of(parts)
    return BestCallback(model, metric, sign=sign_of(metric), patience=parts.config.watch.patience)


def tuning_metrics(
    parts: Tuning, folder: Path, window: MetricsWindow, schedule: ScheduleConfig, *, peak: PeakCallback
) -> MetricsCallback:
    """Return the callback that writes metrics.jsonl."""
    return MetricsCallback(
        folder / "metrics.jsonl",
        window,
        every=parts.config.watch.log_every,
        lengths=[phase.length for phase in schedule.phases],
        optimizer=parts.config.optimizer,
        peak=peak,
    )
