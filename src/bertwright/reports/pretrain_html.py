"""Turns the metrics of a run into report.html, which opens offline: curves, throughput, predictions along the way."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bertwright.files import read_json, write_text
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.callbacks.metrics_file import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; text-align: left }
tr { border-bottom: 1px solid #ddd } .right { color: #0a7d32; font-weight: 600 } .p { color: #888; font-size: .85em }
svg { max-width: 100%; height: auto } h2 { margin-top: 2rem } code { background: #f3f3f3; padding: 0 .3em }
"""


def write_report(run: Path, *, peer: Path | None = None) -> Path:
    """Write RUN/report.html from what is in RUN now (also for a run that was stopped); return its path.

    `peer` is a folder with the metrics.jsonl of another run, whose held-out loss is drawn on the same axis.
    """
    lines = read_metrics(run / "metrics.jsonl")
    beside = (peer.name, read_metrics(peer / "metrics.jsonl")) if peer else None
    manifest = read_json(run / "manifest.json")
    result = read_json(run / "result.json") if (run / "result.json").is_file() else None
    settings = (run / "config.toml").read_text(encoding="utf-8")
    body = [f"<h1>bertwright run: {html.escape(run.name)}</h1>"]
    if lines:
        facts = result_rows(result, manifest) if result else [("stopped at step", f"{lines[-1]['step']:,}")]
        body += [
            table_html(facts),
            "<h2>Loss and accuracy</h2>",
            draw([_draw_loss(manifest, beside), _draw_accuracy], lines),
        ]
        body += ["<h2>Speed and learning rate</h2>", draw([_draw_speed, _draw_rate], lines)]
        body += ["<h2>What it predicted along the way</h2>", *_samples(lines)]
    body += ["<h2>Settings</h2>", f"<pre>{html.escape(settings)}</pre>"]
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(run.name)}</title>'
    write_text(run / "report.html", f"{head}<style>{STYLE}</style><body>{''.join(body)}</body></html>\n")
    return run / "report.html"


def result_rows(result: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the figures of a finished run as (name, value) rows."""
    valid = with_perplexity(result["valid"])
    rows = [(f"held-out {name.replace('_', ' ')}", f"{value:.4f}") for name, value in valid.items()]
    machine = manifest["machine"]
    return [
        *rows,
        ("unigram entropy of the corpus", f"{result['unigram_entropy']:.4f} nats a token"),
        ("steps, tokens", f"{result['steps']:,} steps, {result['tokens']:,} tokens, {result['epochs']:.2f} epochs"),
        ("time", f"{result['seconds'] / 60:.1f} minutes, {result['setup_seconds']:.0f} s of it before the first step"),
        ("speed", f"{result['tokens_per_second']:,.0f} tokens/s, MFU {result['mfu']:.1%}"),
        ("model", f"{result['size']}, {result['parameters']:,} parameters, {manifest['precision']}"),
        ("machine", f"{machine['processor']}, {machine['threads']} threads"),
    ]


def draw(drawers: Sequence[Callable[[Axes, list[dict[str, Any]]], None]], lines: list[dict[str, Any]]) -> str:
    """Return pictures side by side as one inline SVG; each drawer fills one axes from the metrics lines."""
    from matplotlib.figure import Figure  # a third of a second, which no run need wait for before its first step

    figure = Figure(figsize=(11, 3.8), layout="constrained")
    for axes, drawer in zip(figure.subplots(1, len(drawers), squeeze=False)[0], drawers, strict=True):
        drawer(axes, lines)
        axes.grid(alpha=0.3)
    return svg(figure)


def svg(figure: Figure) -> str:
    """Return a figure as the text of an <svg> element."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def minutes(lines: list[dict[str, Any]]) -> list[float]:
    """Return the wall-clock minutes of metrics lines."""
    return [line["seconds"] / 60 for line in lines]


def valid_curve(lines: list[dict[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Return (minutes, values) of a held-out figure, over the lines that have it."""
    having = [line for line in lines if name in line.get("valid", {})]
    return minutes(having), [line["valid"][name] for line in having]


def _draw_loss(
    manifest: dict[str, Any], beside: tuple[str, list[dict[str, Any]]] | None
) -> Callable[[Axes, list[dict[str, Any]]], None]:
    def drawer(axes: Axes, lines: list[dict[str, Any]]) -> None:
        axes.plot(minutes(lines), [line["mlm_loss"] for line in lines], color="#9bb8d9", lw=1, label="training")
        axes.plot(*valid_curve(lines, "mlm_loss"), "o-", color="#1f4e8c", ms=3, label="held out")
        if beside:
            axes.plot(*valid_curve(beside[1], "mlm_loss"), "s-", color="#c0562b", ms=3, label=f"{beside[0]}, held out")
        axes.axhline(manifest["unigram_entropy"], color="#999", ls="--", lw=1, label="unigram entropy")
        axes.set(xlabel="minutes", ylabel="MLM loss (nats)")
        axes.legend(frameon=False)

    return drawer


def _draw_accuracy(axes: Axes, lines: list[dict[str, Any]]) -> None:
    axes.plot(*valid_curve(lines, "mlm_accuracy"), "o-", color="#1f4e8c", ms=3, label="masked words, held out")
    times, values = valid_curve(lines, "nsp_balanced_accuracy")
    if times:
        axes.plot(times, values, "s-", color="#c0562b", ms=3, label="NSP balanced accuracy, held out")
        axes.axhline(0.5, color="#c0562b", ls=":", lw=1, label="NSP, a constant answer")
    else:  # a run of an earlier version, or without sentence pairs
        times, values = valid_curve(lines, "nsp_accuracy")
        axes.plot(times, values, "s-", color="#c0562b", ms=3, label="NSP accuracy, held out" if times else None)
    axes.set(xlabel="minutes", ylabel="accuracy", ylim=(0, 1))
    axes.legend(frameon=False)


def _draw_speed(axes: Axes, lines: list[dict[str, Any]]) -> None:
    axes.plot(minutes(lines), [line["tokens_per_second"] for line in lines], color="#1f4e8c", lw=1)
    axes.set(xlabel="minutes", ylabel="tokens a second", ylim=(0, None))
    right = axes.twinx()
    right.plot(minutes(lines), [line["mfu"] for line in lines], color="#c0562b", lw=1)
    right.set(ylabel="MFU", ylim=(0, max(1, *(line["mfu"] for line in lines))))
    right.yaxis.label.set_color("#c0562b")


def _draw_rate(axes: Axes, lines: list[dict[str, Any]]) -> None:
    axes.plot(minutes(lines), [line["learning_rate"] for line in lines], color="#1f4e8c")
    axes.set(xlabel="minutes", ylabel="learning rate", ylim=(0, None))


def _samples(lines: list[dict[str, Any]]) -> list[str]:
    """Return one table a sample: the guesses at about six evaluations, right ones marked."""
    having = [line for line in lines if line.get("samples")]
    if not having:
        return ["<p>No held-out sentences.</p>"]
    chosen = [having[round(i * (len(having) - 1) / 5)] for i in range(6)] if len(having) > 6 else having
    parts = []
    for index, sample in enumerate(chosen[-1]["samples"]):
        rows = "".join(f"<tr><td>step {line['step']:,}</td>{_guesses(line['samples'][index])}</tr>" for line in chosen)
        text, truth = html.escape(sample["text"]), html.escape(sample["truth"])
        parts.append(f"<p>{text} <span class=p>(was: {truth})</span></p><table>{rows}</table>")
    return parts


def _guesses(sample: dict[str, Any]) -> str:
    return "".join(
        f'<td class="{"right" if word == sample["truth"] else ""}">'
        f"{html.escape(word)} <span class=p>{share:.0%}</span></td>"
        for word, share in sample["predictions"]
    )


def table_html(rows: list[tuple[str, str]]) -> str:
    """Return (name, value) rows as a table."""
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"
