"""Turns what a fine-tuning run has seen into its manifest, its result.json and the tables people read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bertwright.device import machine, versions
from bertwright.errors import ConfigError
from bertwright.files import sha256_of
from bertwright.log import note, print_table
from bertwright.model.build import architecture_of
from bertwright.model.encoder import parameter_count
from bertwright.reports.finetune_html import figure_cells
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.run_of_task import TrainedRun, Tuning

SMALLER_IS_BETTER = ("loss", "perplexity", "mean_squared_error")
MOST_COLUMNS = 12
"""Wider tables stand in report.html alone."""


def metric_of(parts: Tuning) -> str:
    """Return the figure the best checkpoint is chosen by; raises ConfigError where the task has none of that name."""
    metric: str = parts.config.watch.metric or parts.task.metric
    if metric not in parts.task.metrics:
        raise ConfigError(
            f"watch.metric: {parts.task.name} has no figure {metric!r}; known: {', '.join(parts.task.metrics)}"
        )
    return metric


def sign_of(metric: str) -> int:
    """Return 1 where a larger figure is better, else -1."""
    return -1 if metric in SMALLER_IS_BETTER else 1


def better(metric: str, figures: Mapping[str, float], than: Mapping[str, float]) -> bool:
    """Say whether figures are better than others."""
    return sign_of(metric) * figures[metric] > sign_of(metric) * than[metric]


def tune_manifest(parts: Tuning, files: Mapping[str, Path], *, seeds: int) -> dict[str, Any]:
    """Return what the run was made from and where: files, model, seeds, machine, versions."""
    return {
        "model": str(parts.folder),
        "seeds": seeds,
        "files": {
            name: {"path": str(path), "sha256": sha256_of(path)} for name, path in parts.files_read(files).items()
        },
        "examples": {name: len(split.examples) for name, split in parts.splits.items()},
        **held_out_of(parts, files),
        "labels": list(parts.task.labels),
        "precision": parts.precision,
        "machine": machine(parts.device),
        "versions": versions(),
    }


def tune_result(
    parts: Tuning, files: Mapping[str, Path], best: TrainedRun, seen: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the final figures of a run, as result.json holds them: those of the best seed, and of all of them."""
    position, trained = best.position, best.position.seconds - best.position.setup_seconds
    splits = list(best.judged)
    return {
        "task": parts.task.name,
        "model": str(parts.folder),
        "architecture": architecture_of(parts.shape),
        "labels": list(parts.task.labels),
        **({} if (positive := getattr(parts.task, "positive", None)) is None else {"positive": positive}),
        "metric": metric_of(parts),
        **{split: best.judged[split].figures for split in splits},
        "mean": {split: summary([one[split] for one in seen], mean) for split in splits},
        "spread": {split: summary([one[split] for one in seen], stdev) for split in splits} if len(seen) > 1 else {},
        "seed": best.seed,
        "seeds": seen,
        "best_step": best.best_step,
        "steps": position.step,
        "epochs": round(position.epochs, 4),
        "tokens": position.tokens,
        "seconds": round(position.seconds, 1),
        "examples_per_second": round(position.epochs * len(parts.splits["train"].examples) / trained, 1),
        "tokens_per_second": round(position.tokens / trained, 1),
        **({} if best.diverged is None else {"diverged": best.diverged.happened}),
        "optimizer": parts.config.optimizer.name,
        "learning_rate": parts.config.optimizer.learning_rate,
        "warmup": parts.config.schedule.warmup,
        "rows": parts.config.batches.rows,
        "parameters": parameter_count(best.model),
        "examples": {name: len(split.examples) for name, split in parts.splits.items()},
        "files": {name: path.name for name, path in files.items()},
        **held_out_of(parts, files),
        "strategies": strategies(parts.config),
        **parts.facts(),
    }


def held_out_of(parts: Tuning, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what share of the training file is dev, where there is no dev file."""
    fraction = parts.config.dev_fraction_for(files)
    return {} if fraction is None else {"dev_fraction": fraction}


def strategies(config: FinetuneConfig) -> dict[str, Any]:
    """Return the settings of transfer and of the head that are not the usual ones."""
    chosen = config.transfer.model_dump(mode="json", exclude_defaults=True)
    return chosen | config.head.model_dump(mode="json", exclude_defaults=True)


def summary(figures: list[Mapping[str, float]], of: Any) -> dict[str, float]:
    """Return the mean or the standard deviation of each figure over seeds."""
    return {name: round(float(of([one[name] for one in figures])), 6) for name in figures[0]}


def print_scores(figures: Mapping[str, Any]) -> None:
    """Print how long a run took, and a table of its figures on each split, with their spread over seeds."""
    splits, several = [name for name in ("dev", "test") if name in figures], f"{len(figures['seeds'])} seeds"
    rows = []
    for name, shown in figure_names(figures[splits[0]], positive=figures.get("positive")).items():
        rows.append([shown, *figure_cells(figures, splits, name)])
    header = ["figure", *splits, *(f"{split}, {several}" for split in splits if figures["spread"])]
    speed = f"{figures['examples_per_second']:,.0f} examples/s"
    best = f"step {figures['best_step']:,} was best, evaluated below in float32"
    note(f"{figures['epochs']:g} epochs in {figures['seconds']:.0f} s, {speed}; {best}")
    print_table(figures["task"], header, rows)


def print_figures(figures: Mapping[str, Any], judged: Mapping[str, EvalResult]) -> None:
    """Print the figures of a run (see `print_scores`), and the task's own table on dev."""
    print_scores(figures)
    grid = judged["dev"].grid
    if grid is not None and len(grid.header) <= MOST_COLUMNS:
        print_table(f"dev: {grid.title}", grid.header, grid.rows)
    for split, one in judged.items():
        if one.warning:
            note(f"{split}: {one.warning}")
