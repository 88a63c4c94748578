"""Turns a pre-trained encoder and labelled files into a RUN folder with a model of the task, judged on dev and test."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from bertwright.config import write_toml
from bertwright.errors import UsageError
from bertwright.evaluate.task_report import write_task_report
from bertwright.files import refuse_existing, write_json
from bertwright.log import note
from bertwright.recipes.finetune_embed import build_embed, resolve_embed
from bertwright.recipes.finetune_parts import build_finetune
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
from bertwright.recipes.translate_parts import build_translation
from bertwright.recipes.translate_settings import resolve_translation
from bertwright.recipes.tuning import Tuning
from bertwright.tasks.embed import Embed
from bertwright.tasks.translate import Translate
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
    parts = build_parts(task, settings or {}, Path(model), files)
    metric_of(parts)
    write_toml(out / "config.toml", parts.config)
    write_json(out / "manifest.json", tune_manifest(parts, files))
    best, seen = train_seeds(parts, out, seeds)
    figures = tune_result(parts, best, seen)
    parts.save(best.model, out / "model", name=out.name, figures=figures)
    write_json(out / "result.json", figures)
    write_task_report(out, best.judged)
    print_figures(figures, best.judged)
    return figures


def build_parts(task: str, settings: Mapping[str, Any], folder: Path, files: dict[str, Path]) -> Tuning:
    """Return the parts of a run of `task`: a decoder for translate, no head for embed, a head for every other."""
    if task == Translate.name:
        return build_translation(resolve_translation(settings), folder, files)
    if task == Embed.name:
        return build_embed(resolve_embed(settings), folder, files)
    return build_finetune(resolve_finetune(task, settings), folder, files)


def train_seeds(parts: Tuning, out: Path, seeds: int) -> tuple[Tuned, list[dict[str, Any]]]:
    """Train each seed; return the best one on dev, whose metrics become RUN/metrics.jsonl, and the figures of all."""
    peak = parts.peak_flops()
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


def train_one(parts: Tuning, folder: Path, *, seed: int, peak: float) -> Tuned:
    """Train one seed to the end of its schedule or of its patience, and judge it at its best evaluation."""
    began = time.perf_counter()
    position = Position(drawn=[0])
    model = parts.fresh_model(seed)
    step, (source, schedule) = parts.step(model, seed), parts.batches(seed)
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
    judged = {split: parts.judge(model, split) for split in parts.splits if split != "train"}
    return Tuned(seed, model.eval(), best.step, position, judged)


def evaluation(parts: Tuning, model: nn.Module) -> EvaluateListener:
    """Return the listener that judges the model on dev along the run."""
    times = max(1, round(parts.config.schedule.epochs * parts.config.watch.evaluations))
    return EvaluateListener(held_out=lambda: parts.judge_along(model), samples=list, times=times)


def keeper(parts: Tuning, model: nn.Module) -> BestListener:
    """Return the listener that keeps the best weights."""
    metric = metric_of(parts)
    return BestListener(model, metric, sign=sign_of(metric), patience=parts.config.watch.patience)


def metrics_file(parts: Tuning, folder: Path, schedule: ScheduleConfig, *, peak: float) -> MetricsListener:
    """Return the listener that writes metrics.jsonl."""
    return MetricsListener(
        folder / "metrics.jsonl",
        every=parts.config.watch.log_every,
        lengths=[phase.length for phase in schedule.phases],
        peak_learning_rate=parts.config.optimizer.learning_rate,
        peak_flops=peak,
    )
