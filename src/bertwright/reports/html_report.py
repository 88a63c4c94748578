"""Turns a RUN folder into report.html, which opens offline: figures, curves, predictions along the way, worst errors.

It is written at evaluations and at the end of a run.

The pages are templates in templates/, in which every text is escaped, whatever a corpus or the name of a file holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bertwright.files import read_json, write_text
from bertwright.log import Block
from bertwright.reports import curves
from bertwright.reports.before_after import comparison_tables
from bertwright.reports.curves import Drawer, Lines
from bertwright.reports.finetune_result import figures_table
from bertwright.tasks.eval_result import EvalResult, Mistake
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.folder_check import diagnose_run

LONGEST_TEXT = 600
"""Characters of an error shown."""
MOST_SAMPLES = 6
"""Evaluations whose predictions are shown."""


def write_report(run: Path, *, peer: Path | None = None) -> Path:
    """Write RUN/report.html of a pre-training run from what is there now (also while it trains); return its path.

    `peer` is a folder with the metrics.jsonl of another run, whose held-out loss is drawn on the same axis.
    """
    lines, manifest = read_metrics(run / "metrics.jsonl"), read_json(run / "manifest.json")
    if not lines:
        return write_page(run, "pretraining.html", lines=lines)
    tables: list[Block] = []
    result = read_json(run / "result.json") if (run / "result.json").is_file() else {}
    if result.get("steps", -1) >= lines[-1]["step"]:  # one that is made longer has that of its first part still
        facts = result_rows(result, manifest)
        tables = comparison_tables(result["before_after"]) if "before_after" in result else []
    else:
        facts = [("so far", so_far(lines))]
    beside = (peer.name, read_metrics(peer / "metrics.jsonl")) if peer else None
    quality: list[Drawer] = [
        curves.pretraining_loss(manifest["unigram_entropy"], beside),
        curves.pretraining_accuracy,
        *([curves.probes] if any("probes" in line for line in lines) else []),
    ]
    return write_page(
        run,
        "pretraining.html",
        lines=lines,
        facts=facts,
        check=diagnose_run(run, lines),
        comparisons=tables,
        quality=_picture(quality, lines),
        training=_picture([curves.gradient_norm, curves.learning_rate, curves.speed], lines),
        samples=sample_tables(lines),
    )


def so_far(lines: Lines) -> str:
    """Return how far a run is that is not done."""
    last = lines[-1]
    done = f", {last['fraction']:.0%} of the run" if "fraction" in last else ""
    return f"step {last['step']:,}, {last['seconds'] / 60:.1f} minutes{done}"


def write_task_report(run: Path, results: Mapping[str, EvalResult]) -> Path:
    """Write RUN/report.html of a fine-tuning run from what is there and the `results` splits; return its path."""
    lines, calibration = read_metrics(run / "metrics.jsonl"), results["dev"].calibration
    drawers = [curves.reliability(calibration)] if calibration is not None else []
    result, manifest = read_json(run / "result.json"), read_json(run / "manifest.json")
    return write_page(
        run,
        "finetuning.html",
        task=result["task"],
        check=diagnose_run(run, lines),
        facts=task_rows(result, manifest),
        figures=figures_table(result, list(results)),
        curves=_picture(
            [curves.task_loss, curves.task_metric(result["metric"]), curves.gradient_norm, *drawers], lines
        ),
        warnings={split: one.warning for split, one in results.items() if one.warning},
        tables={split: one.table for split, one in results.items() if one.table is not None},
        errors={split: error_rows(one.mistakes) for split, one in results.items()},
    )


def write_task_progress(run: Path, folder: Path, *, task: str, metric: str) -> Path:
    """Write RUN/report.html of a fine-tuning run that trains, with the curves of the seed in a folder."""
    lines = read_metrics(folder / "metrics.jsonl")
    known = [line["valid"] for line in lines if line.get("valid")]
    rows = [(f"dev {name.replace('_', ' ')}", f"{value:.4f}") for name, value in (known[-1] if known else {}).items()]
    return write_page(
        run,
        "finetuning.html",
        so_far=True,
        task=task,
        check=diagnose_run(run, lines),
        facts=[("so far", so_far(lines)), *([("seed", folder.name)] if folder != run else []), *rows],
        figures=None,
        curves=_picture([curves.task_loss, curves.task_metric(metric), curves.gradient_norm], lines),
        warnings={},
        tables={},
        errors={},
    )


def write_page(run: Path, template: str, *, settings: str = "config.toml", **values: Any) -> Path:
    """Fill a template with values, and the settings in a file of `run`; write RUN/report.html and return its path."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # here: a run need not wait for it

    folder = Path(__file__).parent / "templates"
    environment = Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        autoescape=True,
        trim_blocks=True,
    )
    shown = (run / settings).read_text(encoding="utf-8")
    page = environment.get_template(template).render(values, run=run.name, settings=shown)
    write_text(run / "report.html", page.rstrip("\n") + "\n")
    return run / "report.html"


def _picture(drawers: Sequence[Drawer], lines: Lines) -> Any:
    """Return curves as a text that is HTML already: matplotlib escapes the names in it."""
    from markupsafe import Markup

    return Markup(curves.draw(drawers, lines))


def result_rows(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of a finished pre-training run as (name, value) rows."""
    valid = with_perplexity(result["valid"])
    machine = manifest["machine"]
    return [
        *((f"held-out {name.replace('_', ' ')}", f"{value:.4f}") for name, value in valid.items()),
        ("unigram entropy of the corpus", f"{result['unigram_entropy']:.4f} nats a token"),
        ("steps, tokens", f"{result['steps']:,} steps, {result['tokens']:,} tokens, {result['epochs']:.2f} epochs"),
        ("time", f"{result['seconds'] / 60:.1f} minutes, {result['setup_seconds']:.0f} s of it before the first step"),
        ("speed", f"{result['tokens_per_second']:,.0f} tokens/s, MFU {result['mfu']:.1%}"),
        *probe_rows(result),
        *(
            [("went on from", f"{start['model_type']}, SHA-256 of its weights {start['sha256']}")]
            if (start := result.get("start"))
            else []
        ),
        ("model", f"{result['size']}, {result['parameters']:,} parameters, {manifest['precision']}"),
        ("machine", f"{machine['processor']}, {machine['threads']} threads"),
    ]


def probe_rows(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the probes of a run as (name, value) rows."""
    return [
        (
            f"probe {name}: {one['kind']}",
            f"{one['first']:.1%} to {one['accuracy']:.1%} (chance: {one['chance']:.1%})",
        )
        for name, one in result.get("probes", {}).items()
    ]


def task_rows(result: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what a fine-tuning run was made of, and how long it took, as (name, value) rows."""
    machine, counts = manifest["machine"], manifest["examples"]
    rows = [
        ("started from", f"{result['model']} ({result['architecture']}, {result['parameters']:,} parameters)"),
        ("examples", ", ".join(f"{name} {count:,}" for name, count in counts.items())),
    ]
    if "dev_fraction" in result:
        rows.append(("dev", f"{result['dev_fraction']:g} of the training file, held out by a hash of the texts"))
    if "folds" in result:
        rows.append(("dev", f"{len(result['folds'])} folds, each predicted by a model trained on the others"))
    for split, others in manifest.get("overlaps", {}).items():
        known = ", ".join(f"{count:,} of {counts[split]:,} also in {other}" for other, count in others.items())
        rows.append((f"overlap of {split}", known))
    return [
        *rows,
        ("trained", f"{result['epochs']:g} epochs, {result['steps']:,} steps, {result['seconds']:.0f} s"),
        ("kept", "the model of all examples, at its last step")
        if "folds" in result
        else ("kept", f"seed {result['seed']}, step {result['best_step']:,}, best {result['metric']} on dev"),
        ("speed", f"{result['examples_per_second']:,.0f} examples/s, {result['tokens_per_second']:,.0f} tokens/s"),
        ("machine", f"{machine['processor']}, {machine['threads']} threads, {manifest['precision']}"),
    ]


def sample_tables(lines: Lines) -> list[dict[str, Any]]:
    """Return for each held-out sentence its text, the word masked, and (step, predictions) of about six evaluations."""
    shown = [line for line in lines if line.get("samples")]
    if len(shown) > MOST_SAMPLES:
        shown = [shown[round(i * (len(shown) - 1) / (MOST_SAMPLES - 1))] for i in range(MOST_SAMPLES)]
    return [
        {
            "text": sample["text"],
            "label": sample["truth"],
            "rows": [(line["step"], line["samples"][index]["predictions"]) for line in shown],
        }
        for index, sample in enumerate(shown[-1]["samples"] if shown else ())
    ]


def error_rows(mistakes: Sequence[Mistake]) -> list[tuple[str, str, str]]:
    """Return (text, label, prediction) of the worst errors."""
    return [(mistake.text[:LONGEST_TEXT], mistake.label, mistake.prediction) for mistake in mistakes]
