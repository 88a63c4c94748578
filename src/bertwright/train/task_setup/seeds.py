"""Trains the seeds of a fine-tuning run, one after another, and keeps the one that is best on dev."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from bertwright.device import float32_products
from bertwright.errors import DivergedError, OutOfMemoryError, TrainingError, is_out_of_memory
from bertwright.log import note
from bertwright.model.lora import merge_adapters
from bertwright.system import tune_malloc
from bertwright.tasks.metrics import figure_names, sign_of
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.best import BestCallback, EarlyStop
from bertwright.train.callbacks.console import ConsoleCallback
from bertwright.train.callbacks.diagnose import DiagnoseCallback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.evaluation import EvaluateCallback
from bertwright.train.callbacks.metrics_file import MetricsCallback, MetricsWindow
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.callbacks.report_page import ReportCallback
from bertwright.train.callbacks.track import tracking
from bertwright.train.checkpoint.task_resume import (
    Finished,
    delete_checkpoints,
    keep_finished,
    restore_seed,
    task_checkpointing,
)
from bertwright.train.diagnosis.task_check import diagnose_task
from bertwright.train.interval import Interval
from bertwright.train.loop import train
from bertwright.train.state import Progress
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.trained import TrainedRun, evaluate_trained

Page = Callable[[Path], object]
"""Writes the page of a run from what is in the folder of a seed."""


def train_seeds(
    setup: TaskSetup,
    out: Path,
    seeds: int,
    *,
    first: nn.Module | None,
    finished: Finished,
    identity: Mapping[str, Any],
    page: Page | None = None,
) -> TrainedRun:
    """Train each seed that is not `finished`, and put it there; return the best one on dev.

    `first` is the new model of the first of them. The metrics of the best become RUN/metrics.jsonl. At evaluations
    `page` writes the page of the run from the folder of a seed.
    """
    peak = PeakCallback(partial(setup.peak_flops, rounds=2), setup.peak_flops())
    metric = setup.metric
    for seed in finished.left(range(setup.config.seed, setup.config.seed + seeds)):
        folder = out if seeds == 1 else out / "seeds" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        model, first = setup.new_model(seed) if first is None else first, None
        trained = train_seed(setup, model, folder, seed=seed, peak=peak, identity=identity, page=page)
        if seeds > 1 and trained.diverged is not None:
            done = f"; {len(finished.seeds)} seeds before it are kept for --resume" if finished.seeds else ""
            raise TrainingError(f"seed {seed}: {trained.diverged}{done}") from trained.diverged
        finished.add(trained)
        if seeds > 1:
            note(f"seed {seed}: {metric} on dev {trained.results['dev'].figures[metric]:.4f}")
            keep_finished(out, finished)
            delete_checkpoints(folder)
    assert finished.best is not None
    if seeds > 1:
        shutil.copyfile(out / "seeds" / str(finished.best.seed) / "metrics.jsonl", out / "metrics.jsonl")
    return finished.best


@dataclass(frozen=True)
class SeedRun:
    """What became of the training of a seed: its best step, how far it is, and why it ended early, if by an error."""

    best_step: int
    progress: Progress
    diverged: DivergedError | None


def train_seed(
    setup: TaskSetup,
    model: nn.Module,
    folder: Path,
    *,
    seed: int,
    peak: PeakCallback,
    identity: Mapping[str, Any],
    page: Page | None = None,
) -> TrainedRun:
    """Train one seed to the end of its schedule or of its patience, and evaluate it at its best evaluation."""
    run = run_seed(setup, model, folder, seed=seed, peak=peak, identity=identity, page=page)
    return evaluate_trained(
        setup, model, seed=seed, best_step=run.best_step, progress=run.progress, diverged=run.diverged
    )


def run_seed(
    setup: TaskSetup,
    model: nn.Module,
    folder: Path,
    *,
    seed: int,
    peak: PeakCallback,
    identity: Mapping[str, Any],
    page: Page | None = None,
) -> SeedRun:
    """Train one seed to the end of its schedule or of its patience; the model is left at its best evaluation.

    It starts where a checkpoint in `folder` says that it stands, if there is one. Raises OutOfMemoryError where a step
    does not fit into memory.
    """
    with task_memory_explained(setup), float32_products(setup.config.precision, setup.device):
        return _run_seed(setup, model, folder, seed=seed, peak=peak, identity=identity, page=page)


@contextmanager
def task_memory_explained(setup: TaskSetup) -> Iterator[None]:
    """Turn memory that runs out inside into an OutOfMemoryError that says what takes less of it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OutOfMemoryError) or not is_out_of_memory(error):
            raise
        rows, parts = setup.splits["train"].rows, setup.config.engine.accumulation
        more = f"--engine.accumulation {'auto' if parts == 1 else 8 if parts == 'auto' else 2 * parts}"
        raise OutOfMemoryError(
            f"out of memory: steps of up to {setup.examples_per_step} examples of up to {rows.longest} tokens do not "
            f"fit; give {more}, which computes the same steps in more parts, or --engine.recompute true, or a smaller "
            "--seq-length"
        ) from error


def _run_seed(
    setup: TaskSetup,
    model: nn.Module,
    folder: Path,
    *,
    seed: int,
    peak: PeakCallback,
    identity: Mapping[str, Any],
    page: Page | None,
) -> SeedRun:
    began = time.perf_counter()
    (state, objective, engine), loader = setup.begin(model, seed), setup.loader(seed)
    watch, progress, window = setup.config.watch, state.progress, MetricsWindow()
    best = BestCallback(model, setup.metric, sign=sign_of(setup.metric), patience=watch.patience)
    restore_seed(folder, state, best, seed=seed, identity=identity)
    metrics = MetricsCallback(
        folder / "metrics.jsonl",
        window,
        every=watch.log_every,
        lengths=[phase.length for phase in loader.schedule.phases],
        optimizer=setup.config.optimizer,
        peak=peak,
    )
    console = ConsoleCallback(partial(figure_names, positive=setup.task.positive))
    checkpoint = task_checkpointing(setup, folder, state, identity=identity, seed=seed)
    trackers = tracking(watch.track, folder, setup.config.model_dump(mode="json"))
    callbacks: list[Callback] = [window, dev_evaluation(setup, model), peak, DivergenceCallback(model, window), best]
    usual = setup.config.usual_rate(setup.encoder_config)
    check = partial(diagnose_task, constant=setup.constant_loss, usual_rate=usual)
    diagnose = DiagnoseCallback(metrics.path, check, says_normal=False)
    callbacks += [metrics, diagnose, console, *trackers]
    callbacks += [] if page is None else [ReportCallback(partial(page, folder))]
    callbacks += [EndIfDiverged(), *setup.callbacks(model), checkpoint, EarlyStop(best)]
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
    return SeedRun(best.step, progress, diverged)


def dev_evaluation(setup: TaskSetup, model: nn.Module) -> EvaluateCallback:
    """Return the callback that evaluates the model on dev along the run: on a fold at its end, without dev never."""
    watch = setup.config.watch
    times = max(1, round(setup.config.schedule.epochs * watch.evaluations))
    if setup.config.split.folds:
        times = 1 if "dev" in setup.splits else 0
    every = None if watch.evaluate_every is None else Interval.parse(watch.evaluate_every)
    return EvaluateCallback(held_out=partial(setup.dev_figures, model), samples=list, times=times, every=every)
