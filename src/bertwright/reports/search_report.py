"""Turns the figures of a study into the tables that `tune` prints and into report.html."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from bertwright.log import Block, Facts, ResultTable
from bertwright.reports import search_pictures
from bertwright.reports.curves import WIDE, draw_picture
from bertwright.reports.html_report import write_page

SHOWN = 5
"""Trials that are printed; report.html has all."""
Figures = Mapping[str, Any]
"""What result.json of a study holds."""


def study_tables(figures: Figures, out: Path) -> list[Block]:
    """Return what `tune` prints: the winner beside the defaults, the best trials, and the models, if several."""
    tables: list[Block] = [
        Facts(f"tuned {figures['task']}: {out}", study_facts(figures, out)),
        trial_table(figures, SHOWN),
    ]
    if len(figures["models"]) > 1:
        tables.append(model_table(figures))
    return tables


def study_facts(figures: Figures, out: Path) -> dict[str, str]:
    """Return what came of a study in a few lines."""
    metric, winner, defaults, run = (figures[name] for name in ("metric", "winner", "defaults", "retrained"))
    which = "the defaults" if winner["defaults"] else settings_line(winner)
    facts = {
        "winner": f"trial {winner['trial']}: {winner['model']}",
        "its settings": which,
        f"{metric} on dev, search": f"{winner['dev']:.4f} ({runs_text(len(winner['runs']), figures)})",
    }
    if defaults is not None:
        facts["the defaults"] = f"{defaults['dev']:.4f} ({defaults['model']})"
    finalists = [one for one in figures["trials"] if one["further"]]
    if len(finalists) > 1:
        shown = [f"trial {one['trial']} {further_text(one)}" for one in finalists]
        facts["run again to choose"] = ", ".join(shown)
    for split in ("dev", "test"):
        if split in run:
            every = run.get(f"{split}_each", [])
            spread = f" ± {stdev(every):.4f}" if len(every) > 1 else ""
            seeds = "a new seed" if run["seeds"] == 1 else f"{run['seeds']} new seeds"
            facts[f"{metric} on {split}, {seeds}"] = f"{run[split]:.4f}{spread}"
    whole = sum(1 for one in figures["trials"] if one["whole"])
    facts["trials"] = f"{len(figures['trials'])}, {whole} of them to the end, in {figures['seconds'] / 60:.1f} minutes"
    facts["recipe"] = str(out / figures["recipe"])
    facts["model"] = str(out / "winner" / "model")
    return facts


def further_text(trial: Figures) -> str:
    """Return the mean of the runs that a trial has in the finals, and how many they are; nothing where it has none."""
    count = len(trial["further"])
    return f"{mean(trial['further']):.4f} ({count} {'run' if count == 1 else 'runs'})" if count else ""


def runs_text(count: int, figures: Figures) -> str:
    """Return what a trial was measured over, in words."""
    return f"mean of {count} folds" if figures["folds"] else "one seed" if count == 1 else f"mean of {count} seeds"


def settings_line(trial: Figures) -> str:
    """Return the settings of a trial in a line."""
    return (
        ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in trial["settings"].items()) or "the defaults"
    )


def trial_table(figures: Figures, most: int | None = None) -> ResultTable:
    """Return the trials, the best first, those that were not stopped before the others."""
    ranked = sorted(figures["trials"], key=lambda one: (not one["whole"], -figures["sign"] * one["dev"]))
    again = any(one["further"] for one in ranked)
    several = len({one["model"] for one in ranked}) > 1
    rows = []
    for one in ranked[:most]:
        name = f"{one['trial']}{' (defaults)' if one['defaults'] else ''}"
        shown = [f"{one['dev']:.4f}", str(len(one["runs"])), f"{one['seconds']:.0f}"]
        shown += [further_text(one)] if again else []
        rows.append([name, *shown, *([one["model"]] if several else []), settings_line(one)])
    beside = [*(["run again"] if again else []), *(["model"] if several else [])]
    header = ["trial", figures["metric"], "runs", "seconds", *beside, "settings"]
    return ResultTable("the best trials" if most else "trials", header, rows)


def model_table(figures: Figures) -> ResultTable:
    """Return the models of a study by quality, size and latency."""
    rows = []
    for name, one in figures["models"].items():
        cells = ["" if one[part] is None else f"{one[part]:.4f}" for part in ("dev", "defaults")]
        size = [f"{one['parameters']:,}", f"{one['latency_ms']:.1f}"] if "parameters" in one else ["", ""]
        rows.append([name, *cells, *size, str(one["trials"])])
    header = ["model", f"best {figures['metric']}", "defaults", "parameters", "ms a text", "trials"]
    return ResultTable("models", header, rows)


def write_study_report(out: Path, figures: Figures) -> Path:
    """Write STUDY/report.html and return its path."""
    from markupsafe import Markup

    drawers = [partial(search_pictures.history, figures)]
    if figures["importance"]:
        drawers.append(partial(search_pictures.importance, figures))
    if sum("latency_ms" in one for one in figures["models"].values()) > 1:
        drawers.append(partial(search_pictures.models, figures))
    return write_page(
        out,
        "study.html",
        settings="recipe.toml",
        task=figures["task"],
        facts=list(study_facts(figures, out).items()),
        pictures=Markup("".join(map(draw_picture, drawers))),
        parallel=Markup(draw_picture(partial(search_pictures.parallel_coordinates, figures), size=WIDE)),
        models=model_table(figures),
        trials=trial_table(figures),
    )
