"""Turns models of one task, their quality and speed, into a picture: better ones higher, faster ones further left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertwright.files import human_bytes, written_aside
from bertwright.reports.curves import HELD_OUT, OTHER, REFERENCE


@dataclass(frozen=True)
class Point:
    """A model.

    quality       its figure
    milliseconds  for a text, many at a time
    bytes         of its weights
    """

    name: str
    quality: float
    milliseconds: float
    bytes: int


def draw_quality(file: Path, points: Sequence[Point], *, figure: str, title: str) -> None:
    """Write a PNG of models by milliseconds a text and by `figure`; a line is the quality of the first one."""
    from matplotlib.figure import Figure  # here: only a run that is done draws

    picture = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = picture.subplots()
    for point in points:
        first = point is points[0]
        axes.plot(point.milliseconds, point.quality, "s" if first else "o", color=OTHER if first else HELD_OUT)
        axes.annotate(
            f"{point.name}\n{point.quality:.4f}, {human_bytes(point.bytes)}",
            (point.milliseconds, point.quality), textcoords="offset points", xytext=(7, -4), va="top", fontsize=8,
        )  # fmt: skip
    axes.axhline(points[0].quality, color=REFERENCE, ls="--", lw=1)
    axes.set(xlabel="milliseconds a text (many at a time, CPU)", ylabel=figure.replace("_", " "), title=title)
    axes.set_xlim(0, 1.35 * max(point.milliseconds for point in points))
    axes.margins(y=0.25)
    axes.grid(alpha=0.3)
    with written_aside(file) as aside:
        picture.savefig(aside, format="png", dpi=150)
