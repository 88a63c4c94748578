"""Turns a pre-trained encoder and labelled files into a RUN folder with a model of the task, judged on dev and test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from torch import nn

from bertwright.config import merge, write_toml
from bertwright.device import on_device
from bertwright.errors import DivergedError, TrainingError, UsageError
from bertwright.files import locked, map_os_errors, write_json
from bertwright.flags import with_flags
from bertwright.log import note
from bertwright.model.lora import merge_adapters
from bertwright.model.random_state import kept_random_state
from bertwright.reports.finetune_html import write_task_report
from bertwright.reports.finetune_result import better, metric_of, print_figures, sign_of, tune_manifest, tune_result
from bertwright.system import tune_malloc
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import Embed
from bertwright.tasks.examples import overlap_sentences, overlaps_of
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.translation.task import Translate
from bertwright.train.callbacks import Callback
from bertwright.train.callbacks.best import BestListener
from bertwright.train.callbacks.console import ConsoleListener
from bertwright.train.callbacks.evaluation import EvaluateListener
from bertwright.train.callbacks.metrics_file import MetricsCallback
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.checkpoint.task_resume import (
    Finished,
    begin_seed,
    forget_checkpoints,
    keep_finished,
    read_finished,
    require_same_run,
    resumed_settings,
    task_checkpointing,
    tune_identity,
)
from bertwright.train.divergence import DivergenceListener, end_if_diverged
from bertwright.train.interval import Interval
from bertwright.train.loop import Progress, train
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.task_setup.embed_task import EmbedTuneConfig, build_embed, resolve_embed
from bertwright.train.task_setup.encoder_tasks import build_finetune
from bertwright.train.task_setup.finetune_config import FinetuneConfig, resolve_finetune
from bertwright.train.task_setup.run_of_task import TrainedRun, Tuning, judge_tuned
from bertwright.train.task_setup.translate_config import TranslateConfig, resolve_translation
from bertwright.train.task_setup.translate_task import build_translation
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

    >>> # trains
    >>> finetune("classify", "runs/en/model", "train.tsv", "dev.tsv", "runs/sst2")["dev"]["accuracy"]  # doctest: +SKIP
    0.91
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
    files = {name: Path(file) for name, file in {"train": train, "dev": dev, "test": test}.items() if file}
    with held_folder(out, writes=not dry_run), on_device(resolved(task, given).engine.device):
        if not resume:
            require_free_folder(out, [Path(model), *files.values()], overwrite=overwrite)
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
            require_free_folder(out, [Path(model), *parts.files_read(files).values()], overwrite=True, clear=True)
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
        print_figures(figures, best.judged)
        if best.diverged is not None:
            raise TrainingError(f"{best.diverged}; {out / 'model'} is that of step {best.best_step:,}, before that")
        return figures


@contextmanager
def held_folder(out: Path, *, writes: bool) -> Iterator[None]:
    """Hold the folder of a run that `writes` there, and say in a sentence what cannot be written."""
    kept = ", then go on with --resume: the last whole checkpoint is untouched"
    with locked(out) if writes else nullcontext(), map_os_errors(out, saved=kept):
        yield


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
        answers, read = ask(
            out / "model", (), pair=False, input=unlabelled.path, columns=columns, top_k=1, precision="auto"
        )
        count = write_answers(answers, file, read=read)
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
    model = parts.fresh_model(seed)
    step, (source, schedule) = parts.step(model, seed), parts.batches(seed)
    best = keeper(parts, model)
    console = ConsoleListener(partial(figure_names, positive=getattr(parts.task, "positive", None)))
    moving = begin_seed(folder, step, best, identity)
    position = moving.position
    metrics = tuning_metrics(parts, folder, schedule, peak=peak)
    metrics.begin(position)
    checkpoint = task_checkpointing(parts, folder, moving, identity=identity, seed=seed)
    progress = position.spent().progress(schedule)
    judge = dev_evaluation(parts, model, position, schedule)
    callbacks: list[Callback] = [judge, peak, DivergenceListener(model), best]
    callbacks += [metrics, console, end_if_diverged]
    callbacks += [*parts.callbacks(model, progress), checkpoint]
    model.train()
    if not position.step:
        position.seconds = position.setup_seconds = time.perf_counter() - began
    diverged: DivergedError | None = None
    try:
        with tune_malloc(), checkpoint.listening_for_signals():
            reports = train(step, [source], schedule, position=position, accumulation=1)
            for report in () if best.exhausted else reports:
                for callback in callbacks:
                    callback(report)
                if best.exhausted:
                    if "diverged" in report.notes:
                        raise DivergedError(f"the run diverged: {report.notes['diverged']}")
                    note(f"stopped at step {position.step:,}: {best.waited} evaluations without a better {best.metric}")
                    break
            checkpoint.saver.wait()
    except DivergedError as error:
        if not best.figures:
            raise
        diverged = error
    finally:
        console.close()
        checkpoint.saver.close()
    best.restore()
    merge_adapters(model)
    return judge_tuned(parts, model, seed=seed, best_step=best.step, position=position, diverged=diverged)


def dev_evaluation(parts: Tuning, model: nn.Module, position: Progress, schedule: ScheduleConfig) -> EvaluateListener:
    """Return the callback that judges the model on dev along the run, from a position on."""
    watch = parts.config.watch
    times = max(1, round(parts.config.schedule.epochs * watch.evaluations))
    every = None if watch.evaluate_every is None else Interval.parse(watch.evaluate_every)
    callback = EvaluateListener(held_out=lambda: parts.judge_along(model), samples=list, times=times, every=every)
    callback.rewind(position, position.spent().progress(schedule))
    return callback


def keeper(parts: Tuning, model: nn.Module) -> BestListener:
    """Return the callback that keeps the best weights."""
    metric = metric_of(parts)
    return BestListener(model, metric, sign=sign_of(metric), patience=parts.config.watch.patience)


def tuning_metrics(parts: Tuning, folder: Path, schedule: ScheduleConfig, *, peak: PeakCallback) -> MetricsCallback:
    """Return the callback that writes metrics.jsonl."""
    return MetricsCallback(
        folder / "metrics.jsonl",
        every=parts.config.watch.log_every,
        lengths=[phase.length for phase in schedule.phases],
        optimizer=parts.config.optimizer,
        peak=peak,
    )
