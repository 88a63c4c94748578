"""Turns the lines of metrics.jsonl into the pictures of report.html: curves over minutes, an SVG each."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bertwright.tasks.classification.calibration import Calibration

Lines = Sequence[Mapping[str, Any]]
"""Lines of metrics.jsonl."""
Drawer = Callable[["Axes", Lines], None]
"""Fills one picture from the lines of a run."""
BINARY = {"nsp": "NSP", "sop": "SOP", "rtd": "replaced-token"}
"""Parts of the loss that tell two classes apart, and what they are called."""
TRAINING, HELD_OUT, OTHER, REFERENCE = "#9bb8d9", "#1f4e8c", "#c0562b", "#999"
"""Colours: of the training loss, of held-out figures, of a second curve, of what needs no learning."""

SMALL, WIDE = (5.4, 3.5), (11.0, 3.8)
"""Sizes of a picture, in inches: text in the smaller one can be read on a screen of 400 pixels."""
MOST_LINES = 400
"""Lines of metrics.jsonl that a picture is drawn from."""


def draw(drawers: Sequence[Drawer], lines: Lines) -> str:
    """Return a picture a drawer as the text of <svg> elements; each drawer fills one from the metrics lines."""
    shown = thinned(lines)
    return "".join(draw_picture(partial(_on_grid, drawer, shown)) for drawer in drawers)


def _on_grid(drawer: Drawer, lines: Lines, axes: Axes) -> None:
    drawer(axes, lines)
    axes.grid(alpha=0.3)


def draw_picture(drawer: Callable[[Axes], None], *, size: tuple[float, float] = SMALL) -> str:
    """Return what a drawer fills as the text of an <svg> element of a size in inches, named by its axes."""
    from matplotlib.figure import Figure  # a third of a second, which no run need wait for before its first step

    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    drawer(axes)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    text = buffer.getvalue()
    what = html.escape(" over ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel()))))
    return text[text.index("<svg") :].replace("<svg ", f'<svg role="img" aria-label="{what}" ', 1)


def thinned(lines: Lines) -> Lines:
    """Return about MOST_LINES of the lines, evenly spread, and all of evaluations: a picture shows no more."""
    apart = -(-len(lines) // MOST_LINES)
    return [line for place, line in enumerate(lines) if place % max(1, apart) == 0 or line.get("valid")]


def minutes(lines: Lines) -> list[float]:
    """Return the wall-clock minutes of metrics lines."""
    return [line["seconds"] / 60 for line in lines]


def of_steps(lines: Lines) -> Lines:
    """Return the lines that have figures of steps: one of an evaluation before the first step has none."""
    return [line for line in lines if "loss" in line]


def valid_curve(lines: Lines, name: str) -> tuple[list[float], list[float]]:
    """Return (minutes, values) of a held-out figure, over the lines that have it."""
    evaluated = [line for line in lines if name in line.get("valid", {})]
    return minutes(evaluated), [line["valid"][name] for line in evaluated]


def pretraining_loss(entropy: float, peer: tuple[str, Lines] | None = None) -> Drawer:
    """Return what draws the MLM loss beside the unigram entropy (nats) and, if given, that of another run by name."""

    def drawer(axes: Axes, lines: Lines) -> None:
        for name, color, label in (
            ("mlm_loss", TRAINING, "training"),
            ("causal_loss", REFERENCE, "training, next tokens"),
        ):
            if known := [line for line in of_steps(lines) if name in line]:
                axes.plot(minutes(known), [line[name] for line in known], color=color, lw=1, label=label)
        axes.plot(*valid_curve(lines, "mlm_loss"), "o-", color=HELD_OUT, ms=3, label="held out")
        if peer:
            axes.plot(*valid_curve(peer[1], "mlm_loss"), "s-", color=OTHER, ms=3, label=f"{peer[0]}, held out")
        axes.axhline(entropy, color=REFERENCE, ls="--", lw=1, label="unigram entropy")
        _name(axes, "MLM loss (nats)")

    return drawer


def pretraining_accuracy(axes: Axes, lines: Lines) -> None:
    """Draw the held-out accuracy of MLM and, where the run has it, the balanced one of what tells two classes apart."""
    axes.plot(*valid_curve(lines, "mlm_accuracy"), "o-", color=HELD_OUT, ms=3, label="MLM accuracy, held out")
    curves = {name: valid_curve(lines, f"{part}_balanced_accuracy") for part, name in BINARY.items()}
    for name, (times, values) in curves.items():
        if times:
            axes.plot(times, values, "s-", color=OTHER, ms=3, label=f"{name} balanced accuracy, held out")
            axes.axhline(0.5, color=OTHER, ls=":", lw=1, label=f"{name}, a constant answer")
    if not any(times for times, _ in curves.values()):  # a run of an earlier version, or without sentence pairs
        times, values = valid_curve(lines, "nsp_accuracy")
        axes.plot(times, values, "s-", color=OTHER, ms=3, label="NSP accuracy, held out" if times else None)
    _name(axes, "accuracy", ylim=(0, 1))


def probes(axes: Axes, lines: Lines) -> None:
    """Draw the accuracy of each probe along the run, over the minutes that the loss is drawn over."""
    measured = [line for line in lines if "probes" in line]
    for name, colour in zip(measured[0]["probes"], cycle((HELD_OUT, OTHER, TRAINING, REFERENCE)), strict=False):
        axes.plot(minutes(measured), [line["probes"][name] for line in measured], "o-", color=colour, ms=3, label=name)
    axes.set_xlim(*_span(minutes(lines)))
    _name(axes, "accuracy of probes")


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis that shows all of these values, as it is drawn by default."""
    margin = 0.05 * ((max(values) - min(values)) or 1.0)
    return min(values) - margin, max(values) + margin


def speed(axes: Axes, lines: Lines) -> None:
    """Draw tokens a second and MFU."""
    lines = of_steps(lines)
    axes.plot(minutes(lines), [line["tokens_per_second"] for line in lines], color=HELD_OUT, lw=1)
    axes.set(xlabel="minutes", ylabel="tokens a second", ylim=(0, None))
    right = axes.twinx()
    right.plot(minutes(lines), [line["mfu"] for line in lines], color=OTHER, lw=1)
    right.set(ylabel="MFU", ylim=(0, max(1, *(line["mfu"] for line in lines))))
    right.yaxis.label.set_color(OTHER)


def learning_rate(axes: Axes, lines: Lines) -> None:
    """Draw the learning rate."""
    lines = of_steps(lines)
    axes.plot(minutes(lines), [line["learning_rate"] for line in lines], color=HELD_OUT)
    axes.set(xlabel="minutes", ylabel="learning rate", ylim=(0, None))


def gradient_norm(axes: Axes, lines: Lines) -> None:
    """Draw the norm of the gradient before it is clipped, on a logarithmic axis."""
    known = [line for line in lines if line.get("gradient_norm", 0) > 0]
    axes.semilogy(minutes(known), [line["gradient_norm"] for line in known], color=HELD_OUT, lw=1)
    axes.set(xlabel="minutes", ylabel="gradient norm")


def task_loss(axes: Axes, lines: Lines) -> None:
    """Draw the loss of a fine-tuning run, and that on dev where it is known."""
    made = of_steps(lines)
    axes.plot(minutes(made), [line["loss"] for line in made], color=TRAINING, lw=1, label="training")
    if any("loss" in line.get("valid", {}) for line in lines):
        axes.plot(*valid_curve(lines, "loss"), "o-", color=HELD_OUT, ms=3, label="dev")
    _name(axes, "loss")


def task_metric(metric: str) -> Drawer:
    """Return what draws the figure of dev that the best checkpoint is chosen by."""

    def drawer(axes: Axes, lines: Lines) -> None:
        axes.plot(*valid_curve(lines, metric), "o-", color=HELD_OUT, ms=3, label="dev")
        _name(axes, metric.replace("_", " "))

    return drawer


def reliability(calibration: Calibration) -> Drawer:
    """Return what draws accuracy by confidence, as trained and, where there was a temperature, calibrated."""

    def drawer(axes: Axes, lines: Lines) -> None:
        axes.plot((0, 1), (0, 1), color=REFERENCE, ls="--", lw=1, label="as sure as right")
        both = {"as trained": (calibration.before, TRAINING)}
        if calibration.temperature != 1:
            both["calibrated"] = (calibration.after, HELD_OUT)
        for name, (one, color) in both.items():
            label = f"{name}: ECE {one.error:.3f}"
            axes.plot(one.confidences, one.accuracies, "o-", color=color, ms=3, label=label)
        axes.set(xlabel="confidence on dev", ylabel="accuracy", ylim=(0, 1))
        axes.legend(frameon=False)

    return drawer


def _name(axes: Axes, figure: str, **limits: Any) -> None:
    axes.set(xlabel="minutes", ylabel=figure, **limits)
    axes.legend(frameon=False)
