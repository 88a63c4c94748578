"""Turns what a fine-tuning run has found into its manifest, its result.json and the tables people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bertwright.device import machine, versions
from bertwright.files import sha256_of
from bertwright.log import ResultTable, note
from bertwright.model.build import architecture_of
from bertwright.model.encoder import parameter_count
from bertwright.result import Result
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.trained import TrainedRun

MOST_COLUMNS = 12
"""Wider tables stand in report.html alone."""


def task_manifest(setup: TaskSetup, files: Mapping[str, Path], *, seeds: int) -> dict[str, Any]:
    """Return what the run was made from and where: files, model, seeds, machine, versions."""
    return {
        "model": str(setup.folder),
        "seeds": seeds,
        "files": {
            name: {"path": str(path), "sha256": sha256_of(path)} for name, path in setup.files_read(files).items()
        },
        "examples": {name: len(split.examples) for name, split in setup.splits.items()},
        **held_out_of(setup, files),
        "labels": list(setup.task.labels),
        "constant_loss": setup.constant_loss,
        "usual_rate": setup.config.usual_rate(setup.encoder_config),
        "precision": setup.precision,
        "machine": machine(setup.device),
        "versions": versions(),
    }


def task_result(
    setup: TaskSetup, files: Mapping[str, Path], best: TrainedRun, seed_results: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return the final figures of a run, as result.json holds them: those of the best seed, and of all of them.

    Of a run with folds `seed_results` are those of the folds, and "dev" are the predictions of all folds together.
    """
    progress, trained = best.progress, best.progress.seconds - best.progress.setup_seconds
    splits, several, folds = list(best.results), len(seed_results) > 1, bool(setup.config.split.folds)
    every = [split for split in splits if all(split in one for one in seed_results)]
    return {
        "task": setup.task.name,
        "model": str(setup.folder),
        "architecture": architecture_of(setup.encoder_config),
        "labels": list(setup.task.labels),
        **({} if (positive := setup.task.positive) is None else {"positive": positive}),
        "metric": setup.metric,
        **{split: best.results[split].figures for split in splits},
        "mean": {split: summary([one[split] for one in seed_results], mean) for split in every},
        "spread": {split: summary([one[split] for one in seed_results], stdev) for split in every if several},
        "seed": best.seed,
        **({"folds": seed_results, "seeds": []} if folds else {"seeds": seed_results}),
        "best_step": best.best_step,
        "steps": progress.step,
        "epochs": round(progress.epochs, 4),
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 1),
        "examples_per_second": round(progress.epochs * len(setup.splits["train"].examples) / trained, 1),
        "tokens_per_second": round(progress.tokens / trained, 1),
        **({} if best.diverged is None else {"diverged": best.diverged.happened}),
        "optimizer": setup.config.optimizer.name,
        "learning_rate": setup.config.optimizer.learning_rate,
        "warmup": setup.config.schedule.warmup,
        "rows": setup.config.batches.rows,
        "parameters": parameter_count(best.model),
        "examples": {name: len(split.examples) for name, split in setup.splits.items()},
        "files": {name: path.name for name, path in files.items()},
        **held_out_of(setup, files),
        "strategies": strategies(setup.config),
        **best.setup.extra_facts(),
        **calibration_facts(best.results),
    }


def calibration_facts(results: Mapping[str, EvalResult]) -> dict[str, Any]:
    """Return the expected calibration error of each split before and after its logits were divided by a temperature."""
    found = {split: one.calibration for split, one in results.items() if one.calibration is not None}
    errors = {
        split: {"ece_before": round(one.before.error, 6), "ece": round(one.after.error, 6)}
        for split, one in found.items()
    }
    return {"calibration": errors} if errors else {}


def held_out_of(setup: TaskSetup, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what share of the training file is dev, where there is no dev file."""
    fraction = setup.config.dev_fraction_for(files)
    return {} if fraction is None else {"dev_fraction": fraction}


def strategies(config: FinetuneConfig) -> dict[str, Any]:
    """Return the settings of transfer and of the head that are not the usual ones."""
    chosen = config.transfer.model_dump(mode="json", exclude_defaults=True)
    return chosen | config.head.model_dump(mode="json", exclude_defaults=True)


def summary(figures: list[Mapping[str, float]], of: Any) -> dict[str, float]:
    """Return the mean or the standard deviation of each figure over seeds."""
    return {name: round(float(of([one[name] for one in figures])), 6) for name in figures[0]}


def figures_table(figures: Mapping[str, Any], splits: Sequence[str]) -> ResultTable:
    """Return the figures of result.json on each split, and their mean and spread where there are several seeds.

    A cell is empty on a split that has no such figure, as one whose questions all have answers has none of the others.
    """
    spread = figures["spread"]
    runs = f"{len(figures['folds'])} folds" if "folds" in figures else f"{len(figures['seeds'])} seeds"
    several = [split for split in splits if split in spread]
    header = ["figure", *splits, *(f"{split}, {runs}" for split in several)]
    rows = []
    for name, shown in figure_names(figures[splits[0]], positive=figures.get("positive")).items():
        cells = [f"{figures[split][name]:.4f}" if name in figures[split] else "" for split in splits]
        for split in several:
            mean, deviation = (figures[which][split].get(name) for which in ("mean", "spread"))
            cells.append("" if mean is None else f"{mean:.4f} ± {deviation:.4f}")
        rows.append([shown, *cells])
    return ResultTable(figures["task"], header, rows)


def score_table(figures: Mapping[str, Any]) -> ResultTable:
    """Say how long a run took; return a table of its figures on each split, with their spread over seeds."""
    speed = f"{figures['examples_per_second']:,.0f} examples/s"
    best = f"step {figures['best_step']:,} was best, evaluated below in float32"
    if "folds" in figures:
        best = f"dev below are {len(figures['folds'])} folds, each predicted by a model trained on the others"
    note(f"{figures['epochs']:g} epochs in {figures['seconds']:.0f} s, {speed}; {best}")
    return figures_table(figures, [split for split in ("dev", "test") if split in figures])


def with_tables(figures: Mapping[str, Any], results: Mapping[str, EvalResult]) -> Result:
    """Return the figures of a run with their table (see `score_table`), and the task's own table on dev."""
    tables = [score_table(figures)]
    table = results["dev"].table
    if table is not None and len(table.header) <= MOST_COLUMNS:
        tables.append(ResultTable(f"dev: {table.title}", table.header, table.rows))
    for split, one in results.items():
        if one.warning:
            note(f"{split}: {one.warning}")
    return Result(figures, *tables)
