"""Turns the figures of a study into the pictures of its report: trials over time, importance, coordinates, models."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertwright.reports.curves import HELD_OUT, OTHER, REFERENCE, TRAINING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Figures = Mapping[str, Any]
"""What result.json of a study holds."""
MOST_VALUES = 6
"""Values of a setting that are written beside its axis; of more the first and the last."""


def history(figures: Figures, axes: Axes) -> None:
    """Draw each trial's figure in order, the best so far, and the defaults."""
    trials, sign = figures["trials"], figures["sign"]
    whole = [one for one in trials if one["whole"]]
    stopped = [one for one in trials if not one["whole"]]
    axes.plot(
        [one["trial"] for one in stopped], [one["dev"] for one in stopped], "x", color=TRAINING, label="stopped early"
    )
    axes.plot([one["trial"] for one in whole], [one["dev"] for one in whole], "o", color=HELD_OUT, label="to the end")
    best, places, values = -math.inf, [], []
    for one in whole:
        best = max(best, sign * one["dev"])
        places.append(one["trial"])
        values.append(sign * best)
    axes.step(places, values, where="post", color=HELD_OUT, lw=1, label="best so far")
    if figures["defaults"] is not None:
        axes.axhline(figures["defaults"]["dev"], color=REFERENCE, ls="--", lw=1, label="defaults")
    axes.set(xlabel="trial", ylabel=f"{figures['metric']} on dev")
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)


def importance(figures: Figures, axes: Axes) -> None:
    """Draw how much of the differences between trials each setting explains."""
    found = list(reversed(figures["importance"].items()))
    axes.barh([name.rpartition(".")[2] for name, _ in found], [value for _, value in found], color=HELD_OUT)
    axes.set(xlabel="importance", xlim=(0, None))


def models(figures: Figures, axes: Axes) -> None:
    """Draw the models by latency and quality; the area of a point is its size."""
    known = {name: one for name, one in figures["models"].items() if "latency_ms" in one and one["dev"] is not None}
    most = max((one["parameters"] for one in known.values()), default=1)
    for name, one in known.items():
        axes.scatter(one["latency_ms"], one["dev"], s=40 + 400 * one["parameters"] / most, color=TRAINING, ec=HELD_OUT)
        axes.annotate(label_of(name), (one["latency_ms"], one["dev"]), ha="center", va="bottom", fontsize=8)
    axes.set(xlabel="milliseconds a text", ylabel=f"best {figures['metric']} on dev")
    axes.margins(0.2)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)


def parallel_coordinates(figures: Figures, axes: Axes) -> None:
    """Draw a line a trial over the settings it has drawn, the darker the better, the winner in a colour of its own."""
    names = list(dict.fromkeys(name for one in figures["trials"] for name in one["drawn"]))
    scales = {name: places_of([one["drawn"].get(name) for one in figures["trials"]]) for name in names}
    ranked = sorted(figures["trials"], key=lambda one: figures["sign"] * one["dev"])
    for rank, one in enumerate(ranked, start=1):
        heights = [scales[name][repr(one["drawn"].get(name))] for name in names]
        if one["trial"] == figures["winner"]["trial"]:
            axes.plot(range(len(names)), heights, color=OTHER, lw=2, zorder=3)
        else:
            axes.plot(range(len(names)), heights, color=HELD_OUT, alpha=0.1 + 0.5 * rank / len(ranked), lw=1)
    for place, name in enumerate(names):
        every = list(scales[name].items())
        for shown, height in every if len(every) <= MOST_VALUES else (every[0], every[-1]):
            axes.annotate(label_of(shown), (place + 0.02, height), fontsize=7, ha="left", va="center", color="#444")
    labels = [name.rpartition(".")[2].replace("_", "\n") for name in names]
    axes.set_xticks(range(len(names)), labels, fontsize=8)
    axes.set(ylim=(-0.05, 1.05), xlim=(-0.2, len(names) - 0.5), yticks=[])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", alpha=0.5)


def places_of(values: Sequence[Any]) -> dict[str, float]:
    """Return the height, 0 to 1, of each value on its axis, by its text: numbers by their logarithm where they spread.

    >>> places_of([1, 100, 10])
    {'1': 0.0, '10': 0.5, '100': 1.0}
    """
    known = {repr(value): value for value in values}
    numbers = [value for value in known.values() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if len(numbers) < len(known):
        texts = sorted(known)
        return {text: place / max(1, len(texts) - 1) for place, text in enumerate(texts)}
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low > 5
    along = {
        text: math.log(value) if log else float(value) for text, value in sorted(known.items(), key=lambda one: one[1])
    }
    first, last = min(along.values()), max(along.values())
    return {text: round((value - first) / ((last - first) or 1.0), 6) for text, value in along.items()}


def label_of(text: str) -> str:
    """Return the text of a value as a picture shows it.

    >>> label_of("0.123456"), label_of("'balanced'")
    ('0.123', 'balanced')
    """
    try:
        return f"{float(text):.3g}"
    except ValueError:
        return text.strip("'").rstrip("/").rpartition("/")[2]
