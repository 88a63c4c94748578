"""Turns a RUN folder into the figures of the run and the course of its loss; one that is not done has the course."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.errors import ModelError
from bertwright.files import optional_object, read_json
from bertwright.log import Block, Facts, Lines, ResultTable
from bertwright.reports.checkpoint_table import went_on_from
from bertwright.reports.finetune_result import score_table
from bertwright.reports.pretrain_result import facts
from bertwright.result import Result
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.folder_check import diagnose_run
from bertwright.verbs.calls.folder_kind import task_of_run

METRIC_LINES = 12
Columns = dict[str, tuple[str, str]]
"""Columns of the table of a run: where each comes from in a line of metrics.jsonl, and how it is written."""
TASK_METRICS: Columns = {
    "minutes": ("seconds", ".1f"),
    "loss": ("loss", ".3f"),
    "rate": ("learning_rate", ".1e"),
    "tokens/s": ("tokens_per_second", ",.0f"),
}
METRICS: Columns = {
    "minutes": ("seconds", ".1f"),
    "loss": ("loss", ".3f"),
    "MLM": ("mlm_loss", ".3f"),
    "NSP": ("nsp_loss", ".3f"),
    "SOP": ("sop_loss", ".3f"),
    "next token": ("causal_loss", ".3f"),
    "replaced": ("rtd_loss", ".3f"),
    "length": ("length", "d"),
    "rate": ("learning_rate", ".1e"),
    "tokens/s": ("tokens_per_second", ",.0f"),
    "held-out MLM": ("mlm_loss", ".3f"),
    "held-out perplexity": ("mlm_perplexity", ",.1f"),
    "held-out NSP": ("nsp_accuracy", ".1%"),
    "held-out NSP, balanced": ("nsp_balanced_accuracy", ".1%"),
    "held-out SOP": ("sop_accuracy", ".1%"),
    "held-out SOP, balanced": ("sop_balanced_accuracy", ".1%"),
    "held-out replaced, balanced": ("rtd_balanced_accuracy", ".1%"),
}
SOMETIMES = (
    "SOP", "next token", "replaced", "held-out SOP", "held-out SOP, balanced", "held-out replaced, balanced",
)  # fmt: skip
"""Columns that are left out where no line has their figure."""
OF_VALID = ("held-out ", "dev ")
"""How the names of columns begin that come from the figures of an evaluation."""


def show_run(run: Path) -> Result:
    """Return the figures of a run and a dozen lines of its metrics; raises ModelError where it has none, or damaged."""
    task = task_of_run(run)
    result: dict[str, Any] | None = None
    blocks: list[Block] = []
    try:
        lines = read_metrics(run / "metrics.jsonl")
        if (run / "result.json").is_file():
            result = dict(read_json(run / "result.json"))
            blocks.append(score_table(result) if task else Facts(str(run), facts(result)))
        elif not task and (start := start_of(run)):
            blocks.append(Facts(str(run), {"goes on from": went_on_from(start)}))
        columns, chosen = task_columns(lines) if task else pretraining_columns(lines), spread_lines(lines)
        rows = [metric_row(line, columns) for line in chosen]
        check = diagnose_run(run, lines)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{run} is damaged ({error!r}); its config.toml says how to run it again") from error
    if not lines:
        raise ModelError(f"{run} has no metrics yet; look again once it has made some steps")
    blocks.append(ResultTable(f"{run}, along training", ["step", *columns], rows))
    figures = {"kind": "run", "task": task, "result": result, "metrics": chosen}
    if check is not None:
        figures["loss_check"] = {"state": check.state, "normal": check.normal, "text": str(check)}
        blocks.append(Lines([str(check)], style="" if check.normal else "bold red", wrap=True))
    return Result(figures, *blocks)


def pretraining_columns(lines: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the columns of a pre-training run: the usual ones, and those of its objectives."""
    known = {name for line in lines for name in (*line, *(line.get("valid") or {}))}
    return {name: column for name, column in METRICS.items() if name not in SOMETIMES or column[0] in known}


def start_of(run: Path) -> dict[str, str] | None:
    """Return what the model was that a run of pre-training goes on from; None where it began with a new one."""
    start: dict[str, str] | None = optional_object(
        run / "manifest.json", error=ModelError, fix="copy the run again"
    ).get("start")
    return start


def task_columns(lines: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the columns of a fine-tuning run: the usual ones, and each figure on dev."""
    figures = dict.fromkeys(name for line in lines for name in line.get("valid") or {})
    return TASK_METRICS | {f"dev {name.replace('_', ' ')}": (name, ".4f") for name in figures}


def spread_lines(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a dozen lines of a metrics file, evenly spread: of those with held-out figures, if any."""
    evaluated = [line for line in lines if line.get("valid")] or list(lines)
    places = {round(place) for place in np.linspace(0, len(evaluated) - 1, METRIC_LINES)} if evaluated else set()
    return [evaluated[place] for place in sorted(places)]


def metric_row(line: Mapping[str, Any], columns: Columns) -> list[str]:
    """Return a line of a metrics file as a row of the table: the step, then the columns; empty where it has none."""
    row = [f"{line['step']:,}"]
    for name, (key, shape) in columns.items():
        value = (with_perplexity(line.get("valid") or {}) if name.startswith(OF_VALID) else line).get(key)
        row.append("" if value is None else format(value / 60 if name == "minutes" else value, shape))
    return row
