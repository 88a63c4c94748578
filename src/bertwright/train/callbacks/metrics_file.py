"""Turns reports into lines of metrics.jsonl: one JSON object every few steps, averaged over them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertwright.files import write_text
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.loop import Progress, StepReport
from bertwright.train.optim.config import OptimizerConfig
from bertwright.types import part_figures

UNLOGGED = {"compiling"}
"""Notes for the console alone."""


@dataclass
class MetricsCallback:
    """Appends to RUN/metrics.jsonl every `every` steps, and whenever an evaluation left figures.

    A line holds step, tokens, epochs, seconds, loss and its parts (means over the steps since the last line),
    learning_rate (and that of Muon, where it trains some matrices), tokens_per_second, mfu (useful floating-point
    operations over the measured rate of matrix products, peak_flops), length, and, after an evaluation, valid and
    samples.
    """

    path: Path
    every: int
    lengths: list[int]
    optimizer: OptimizerConfig
    peak: PeakCallback
    _last: dict[str, Any] = field(default_factory=dict, init=False)
    """The figures of the last line."""

    def begin(self, position: Progress) -> None:
        """Start the file; a run that goes on from an earlier step drops the lines after it, and writes them again.

        So it drops a last line that a kill tore, and what a power cut left behind the lines of the checkpoint.
        """
        kept, self._last = [], {}
        for line, figures in _whole_lines(self.path, forgiving=True):
            if figures["step"] <= position.step:
                kept.append(line)
                self._last = figures
        write_text(self.path, "".join(kept))

    def __call__(self, report: StepReport) -> None:
        """Write a line if one is due."""
        position, window = report.position, report.position.window
        if position.step % self.every and not report.notes.keys() - UNLOGGED and not report.last:
            return
        # A run that went back to its last line has no step to tell of since.
        line = {**(self._figures(report) if window else self._last), **report.notes}
        for name in UNLOGGED & line.keys():
            del line[name]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        report.notes["line"] = self._last = line
        window.clear()

    def _figures(self, report: StepReport) -> dict[str, Any]:
        """Return what a line holds but for notes: means over the steps since the last one."""
        position, window = report.position, report.position.window
        return {
            "step": position.step,
            "tokens": position.tokens,
            "epochs": round(position.epochs, 5),
            "seconds": round(position.seconds, 3),
            **means(window),
            **self._rates(report.learning_rate_factor),
            "tokens_per_second": round(window["tokens"] / window["seconds"], 1),
            "mfu": round(window["flops"] / window["seconds"] / self.peak.flops, 4),
            "peak_flops": self.peak.flops,
            "length": self.lengths[report.phase],
        }

    def _rates(self, factor: float) -> dict[str, float]:
        """Return the learning rates of a step: that of the Adam family, and Muon's."""
        rates = {"learning_rate": self.optimizer.learning_rate * factor}
        if self.optimizer.name == "muon":
            rates["muon_learning_rate"] = self.optimizer.muon_learning_rate * factor
        return rates


def means(window: dict[str, float]) -> dict[str, float]:
    """Return means of the loss parts from their sums: losses a step, objective parts each over its own count.

    See `part_figures` for those of the parts.
    """
    steps = window["steps"]
    figures = {"loss": window["loss"] / steps, "gradient_norm": window["gradient_norm"] / steps}
    return {name: round(value, 6) for name, value in figures.items()} | part_figures(window)


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a metrics file; a last line torn by a kill is left out.

    Raises ValueError where another one is no JSON.
    """
    return [figures for _, figures in _whole_lines(path)]


def _whole_lines(path: Path, *, forgiving: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the lines of a metrics file and what they hold; if `forgiving`, up to the first that cannot be read."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.exists() else [""]
    for line in lines[:-1]:
        try:
            figures = json.loads(line)
        except (ValueError, RecursionError):
            if forgiving:
                return
            raise
        yield f"{line}\n", figures
