"""Turns a fine-tuning run into report.html, which opens offline: figures, curves, the task's table, worst errors."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from bertwright.files import read_json, write_text
from bertwright.reports.pretrain_html import STYLE, draw, minutes, table_html, valid_curve
from bertwright.tasks.eval_result import EvalResult, Mistake, ResultTable
from bertwright.tasks.metrics import figure_names
from bertwright.train.callbacks.metrics_file import read_metrics

LONGEST_TEXT = 600
"""Characters of an error shown."""


def write_task_report(run: Path, results: Mapping[str, EvalResult]) -> Path:
    """Write RUN/report.html from what is in RUN and from the results on its splits; return its path."""
    lines = read_metrics(run / "metrics.jsonl")
    result, manifest = read_json(run / "result.json"), read_json(run / "manifest.json")
    title = html.escape(f"{result['task']}: {run.name}")
    body = [
        f"<h1>{title}</h1>",
        table_html(_facts(result, manifest)),
        "<h2>Figures</h2>",
        _figures(result, list(results)),
    ]
    body += ["<h2>Along the way</h2>", draw([_draw_loss, _draw_metric(result["metric"])], lines)]
    body += [f"<p>{split}: {html.escape(one.warning)}.</p>" for split, one in results.items() if one.warning]
    for split, one in results.items():
        if one.table is not None:
            body += [f"<h2>{split}: {html.escape(one.table.title)}</h2>", _table(one.table)]
    for split, one in results.items():
        body += [f"<h2>The worst errors on {split}</h2>", _mistakes(one.mistakes)]
    settings = (run / "config.toml").read_text(encoding="utf-8")
    body += ["<h2>Settings</h2>", f"<pre>{html.escape(settings)}</pre>"]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    write_text(run / "report.html", f"{head}<style>{STYLE}</style><body>{''.join(body)}</body></html>\n")
    return run / "report.html"


def _facts(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    machine, counts = manifest["machine"], manifest["examples"]
    return [
        ("started from", f"{result['model']} ({result['architecture']}, {result['parameters']:,} parameters)"),
        ("examples", ", ".join(f"{name} {count:,}" for name, count in counts.items())),
        *_split_facts(result, manifest),
        ("trained", f"{result['epochs']:g} epochs, {result['steps']:,} steps, {result['seconds']:.0f} s"),
        ("kept", f"seed {result['seed']}, step {result['best_step']:,}, best {result['metric']} on dev"),
        ("speed", f"{result['examples_per_second']:,.0f} examples/s, {result['tokens_per_second']:,.0f} tokens/s"),
        ("machine", f"{machine['processor']}, {machine['threads']} threads, {manifest['precision']}"),
    ]


def _split_facts(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how dev was made, if it has no file, and which examples stand in two splits."""
    facts = []
    if "dev_fraction" in result:
        facts.append(("dev", f"{result['dev_fraction']:g} of the training file, held out by a hash of the texts"))
    counts = manifest["examples"]
    for split, others in manifest.get("overlaps", {}).items():
        known = ", ".join(f"{count:,} of {counts[split]:,} also in {other}" for other, count in others.items())
        facts.append((f"overlap of {split}", known))
    return facts


def _figures(result: Mapping[str, Any], splits: Sequence[str]) -> str:
    seeds = len(result["seeds"])
    header = ["", *splits, *(f"{split}, {seeds} seeds" for split in splits if seeds > 1)]
    rows = []
    for name, shown in figure_names(result[splits[0]], positive=result.get("positive")).items():
        rows.append([shown, *figure_cells(result, splits, name)])
    return _table(ResultTable("figures", header, rows))


def figure_cells(result: Mapping[str, Any], splits: Sequence[str], name: str) -> list[str]:
    """Return a figure on each split, then its mean and spread where there are several seeds.

    Empty on a split that has no such figure, as one whose questions all have answers has none of the others.
    """
    has = [name in result[split] for split in splits]
    cells = [f"{result[split][name]:.4f}" if known else "" for split, known in zip(splits, has, strict=True)]
    if result["spread"]:
        cells += [
            f"{result['mean'][split][name]:.4f} ± {result['spread'][split][name]:.4f}" if known else ""
            for split, known in zip(splits, has, strict=True)
        ]
    return cells


def _table(table: ResultTable) -> str:
    header = "".join(f"<th>{html.escape(name)}</th>" for name in table.header)
    rows = "".join(
        f"<tr><th>{html.escape(row[0])}</th>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in table.rows
    )
    return f"<table><tr>{header}</tr>{rows}</table>"


def _mistakes(mistakes: Sequence[Mistake]) -> str:
    if not mistakes:
        return "<p>None.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(mistake.text[:LONGEST_TEXT])}</td><td class=right>{html.escape(mistake.label)}</td>"
        f"<td>{html.escape(mistake.prediction)}</td></tr>"
        for mistake in mistakes
    )
    return f"<table><tr><th>text</th><th>label</th><th>prediction</th></tr>{rows}</table>"


def _draw_loss(axes: Axes, lines: list[dict[str, Any]]) -> None:
    axes.plot(minutes(lines), [line["loss"] for line in lines], color="#9bb8d9", lw=1, label="training")
    if any("loss" in line.get("valid", {}) for line in lines):
        axes.plot(*valid_curve(lines, "loss"), "o-", color="#1f4e8c", ms=3, label="dev")
    axes.set(xlabel="minutes", ylabel="loss")
    axes.legend(frameon=False)


def _draw_metric(metric: str) -> Callable[[Axes, list[dict[str, Any]]], None]:
    def drawer(axes: Axes, lines: list[dict[str, Any]]) -> None:
        axes.plot(*valid_curve(lines, metric), "o-", color="#1f4e8c", ms=3, label="dev")
        axes.set(xlabel="minutes", ylabel=metric.replace("_", " "))
        axes.legend(frameon=False)

    return drawer
