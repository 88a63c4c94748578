"""Turns a pre-trained encoder and labelled files into a RUN folder with a model of the task, judged on dev and test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertwright.config import write_toml
from bertwright.errors import UsageError
from bertwright.evaluate.task_report import write_task_report
from bertwright.export.fine_tuned import save_fine_tuned
from bertwright.export.task_card import task_card
from bertwright.files import refuse_existing, write_json
from bertwright.log import note
from bertwright.model.fine_tuned import FineTuned
from bertwright.recipes.finetune_parts import (
    TuneParts,
    build_finetune,
    fresh_model,
    tune_batches,
    tune_peak_flops,
    tune_step,
)
from bertwright.recipes.finetune_result import (
    Tuned,
    better,
    metric_of,
    print_figures,
    sign_of,
    tune_manifest,
    tune_result,
)
from bertwright.recipes.finetune_settings import resolve_finetune
from bertwright.train.listeners import Listener
from bertwright.train.listeners.best import BestListener
from bertwright.train.listeners.console import ConsoleListener
from bertwright.train.listeners.evaluate import EvaluateListener
from bertwright.train.listeners.metrics import MetricsListener
from bertwright.train.loop import Position, train
from bertwright.train.memory import keep_freed_memory
from bertwright.train.schedule import ScheduleConfig


def finetune(
    task: str,
    model: Path | str,
    train: Path | str,
    dev: Path | str,
    out: Path | str,
    *,
    test: Path | str | None = None,
    seeds: int = 1,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fine-tune the encoder of a MODEL folder on a task and write a RUN folder; return what result.json holds.

    With several `seeds` each is trained, mean and spread are told, and the best on dev is kept. `settings` are nested
    as in RUN/config.toml, e.g. {"schedule": {"epochs": 4}}. Raises UsageError for wrong words,
    InputError for files or models that do not fit, and OutputExistsError, all before anything is written.

    >>> finetune("classify", "runs/en/model", "train.tsv", "dev.tsv", "runs/sst2")["dev"]["accuracy"]
    0.91
    """
    if seeds < 1:
        raise UsageError(f"--seeds {seeds} trains nothing; give 1 or more")
    out = Path(out)
    refuse_existing(out, instead="give another --out")
    files = {"train": Path(train), "dev": Path(dev)} | ({"test": Path(test)} if test else {})
    parts = build_finetune(resolve_finetune(task, settings or {}), Path(model), files)
    metric_of(parts)
    write_toml(out / "config.toml", parts.config)
    write_json(out / "manifest.json", tune_manifest(parts, files))
    best, seen = train_seeds(parts, out, seeds)
    figures = tune_result(parts, best, seen)
    save_fine_tuned(
        best.model,
        parts.tokenizer.path.parent,
        out / "model",
        labels=parts.task.labels,
        problem=parts.task.problem,
        own=best.own,
        card=task_card(out.name, figures),
    )
    write_json(out / "result.json", figures)
    write_task_report(out, best.judged)
    print_figures(figures, best.judged)
    return figures


def train_seeds(parts: TuneParts, out: Path, seeds: int) -> tuple[Tuned, list[dict[str, Any]]]:
    """Train each seed; return the best one on dev, whose metrics become RUN/metrics.jsonl, and the figures of all."""
    peak = tune_peak_flops(parts)
    metric = metric_of(parts)
    best: Tuned | None = None
    seen: list[dict[str, Any]] = []
    for seed in range(parts.config.seed, parts.config.seed + seeds):
        folder = out if seeds == 1 else out / "seeds" / str(seed)
        folder.mkdir(parents=True, exist_ok=True)
        tuned = train_one(parts, folder, seed=seed, peak=peak)
        seen.append({"seed": seed, **{split: judged.figures for split, judged in tuned.judged.items()}})
        if best is None or better(metric, tuned.judged["dev"].figures, best.judged["dev"].figures):
            best = tuned
        if seeds > 1:
            note(f"seed {seed}: {metric} on dev {tuned.judged['dev'].figures[metric]:.4f}")
    assert best is not None
    if seeds > 1:
        shutil.copyfile(out / "seeds" / str(best.seed) / "metrics.jsonl", out / "metrics.jsonl")
    return best, seen


def train_one(parts: TuneParts, folder: Path, *, seed: int, peak: float) -> Tuned:
    """Train one seed to the end of its schedule or of its patience, and judge it at its best evaluation."""
    began = time.perf_counter()
    position = Position(drawn=[0])
    model = fresh_model(parts, seed)
    step, (source, schedule) = tune_step(parts, model, seed), tune_batches(parts, seed)
    best, console = keeper(parts, model), ConsoleListener()
    metrics = metrics_file(parts, folder, schedule, peak=peak)
    metrics.begin(position)
    listeners: list[Listener] = [evaluation(parts, model), best, metrics, console]
    keep_freed_memory()
    model.train()
    position.seconds = position.setup_seconds = time.perf_counter() - began
    try:
        for report in train(step, [source], schedule, position=position, accumulation=1):
            for listener in listeners:
                listener(report)
            if best.exhausted:
                note(f"stopped at step {position.step:,}: {best.waited} evaluations without a better {best.metric}")
                break
    finally:
        console.close()
    best.restore()
    judged = {"dev": parts.judge(model, "dev")}
    settled = replace(parts, task=parts.task.settled(judged["dev"]))
    judged |= {split: settled.judge(model, split) for split in parts.splits if split not in ("train", "dev")}
    return Tuned(seed, model.eval(), best.step, position, judged, settled.task.own)


def evaluation(parts: TuneParts, model: FineTuned) -> EvaluateListener:
    """Return the listener that judges the model on dev along the run."""
    times = max(1, round(parts.config.schedule.epochs * parts.config.watch.evaluations))
    return EvaluateListener(held_out=lambda: parts.judge_along(model), samples=list, times=times)


def keeper(parts: TuneParts, model: FineTuned) -> BestListener:
    """Return the listener that keeps the best weights."""
    metric = metric_of(parts)
    return BestListener(model, metric, sign=sign_of(metric), patience=parts.config.watch.patience)


def metrics_file(parts: TuneParts, folder: Path, schedule: ScheduleConfig, *, peak: float) -> MetricsListener:
    """Return the listener that writes metrics.jsonl."""
    return MetricsListener(
        folder / "metrics.jsonl",
        every=parts.config.watch.log_every,
        lengths=[phase.length for phase in schedule.phases],
        peak_learning_rate=parts.config.optimizer.learning_rate,
        peak_flops=peak,
    )
