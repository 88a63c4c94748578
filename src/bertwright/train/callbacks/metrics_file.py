"""Turns reports into lines of metrics.jsonl: one JSON object every few steps, averaged over them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bertwright.device import peak_device_memory
from bertwright.files import write_text
from bertwright.system import peak_memory
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.state import TrainState
from bertwright.types import part_figures

UNLOGGED = {"compiling"}
"""Notes for the console alone."""


@dataclass
class MetricsWindow(Callback):
    """Adds up the figures of steps since the last line of metrics.jsonl; stands before all who look at them."""

    SAVED: ClassVar[Mapping[str, str]] = {"sums": "window"}

    sums: dict[str, float] = field(default_factory=dict)
    """The loss parts, and the steps, tokens, places, flops and seconds they took, and seconds of waiting."""

    def on_step(self, report: StepReport) -> None:
        """Add the figures of a step."""
        for name, value in report.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value

    @property
    def loss(self) -> float | None:
        """The mean loss of these steps; None where there are none."""
        return self.sums["loss"] / self.sums["steps"] if self.sums else None


@dataclass
class MetricsCallback(Callback):
    """Appends to RUN/metrics.jsonl every `every` steps, and whenever an evaluation left figures.

    A line holds step, tokens, epochs, seconds, loss and its parts (means over the steps since the last line),
    learning_rate (and that of Muon, where it trains some matrices), tokens_per_second, mfu (useful floating-point
    operations over the measured rate of matrix products, peak_flops), length, padding (fraction of the places in rows
    that hold no token), waiting (fraction of the time spent waiting for batches), memory and, on a GPU, device_memory
    (the most bytes held so far), fraction (of the run that is done), and, after an evaluation, valid and samples. The
    line of an evaluation before the first step has no figures of steps.
    """

    path: Path
    window: MetricsWindow
    every: int
    lengths: list[int]
    optimizer: OptimizerConfig
    peak: PeakCallback
    _last: dict[str, Any] = field(default_factory=dict, init=False)
    """The figures of the last line."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Start the file; a run that goes on from an earlier step drops the lines after it, and writes them again.

        So it drops a last line that a kill tore, and what a power cut left behind the lines of the checkpoint.
        """
        kept, self._last = [], {}
        for line, figures in _whole_lines(self.path, forgiving=True):
            if figures["step"] <= state.progress.step:
                kept.append(line)
                self._last = figures
        write_text(self.path, "".join(kept))

    def on_step(self, report: StepReport) -> None:
        """Write a line if one is due."""
        sums = self.window.sums
        if report.progress.step % self.every and not report.notes.keys() - UNLOGGED and not report.last:
            return
        # A run that went back to its last line has made no step since.
        line = {**(self._figures(report) if sums else self._last or self._place(report)), **report.notes}
        for name in UNLOGGED & line.keys():
            del line[name]
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
        report.notes["line"] = self._last = line
        sums.clear()

    def _figures(self, report: StepReport) -> dict[str, Any]:
        """Return what a line holds but for notes: means over the steps since the last one."""
        sums = self.window.sums
        return {
            **self._place(report),
            **means(sums),
            **self._rates(report.rate_factor),
            "tokens_per_second": round(sums["tokens"] / sums["seconds"], 1),
            "mfu": round(sums["flops"] / sums["seconds"] / self.peak.flops, 4),
            "peak_flops": self.peak.flops,
            "length": self.lengths[report.phase],
            **shares(sums),
            **memory_held(),
            "fraction": round(report.fraction, 6),
        }

    def _place(self, report: StepReport) -> dict[str, Any]:
        """Return how far the run is."""
        progress = report.progress
        return {
            "step": progress.step,
            "tokens": progress.tokens,
            "epochs": round(progress.epochs, 5),
            "seconds": round(progress.seconds, 3),
        }

    def _rates(self, factor: float) -> dict[str, float]:
        """Return the learning rates of a step: that of the Adam family, and Muon's."""
        rates = {"learning_rate": self.optimizer.learning_rate * factor}
        if self.optimizer.name == "muon":
            rates["muon_learning_rate"] = self.optimizer.muon_learning_rate * factor
        return rates


def means(sums: Mapping[str, float]) -> dict[str, float]:
    """Return means of the loss parts from their sums: losses a step, objective parts each over its own count.

    See `part_figures` for those of the parts.
    """
    steps = sums["steps"]
    figures = {"loss": sums["loss"] / steps, "gradient_norm": sums["gradient_norm"] / steps}
    return {name: round(value, 6) for name, value in figures.items()} | part_figures(sums)


def shares(sums: Mapping[str, float]) -> dict[str, float]:
    """Return the fractions of padding and of waiting of steps; none of those that a checkpoint of old summed up.

    >>> shares({"tokens": 90.0, "places": 100.0, "seconds": 2.0, "waiting": 0.5})
    {'padding': 0.1, 'waiting': 0.25}
    """
    if not sums.get("places"):
        return {}
    padding, waiting = 1 - sums["tokens"] / sums["places"], sums["waiting"] / sums["seconds"]
    return {"padding": round(max(0.0, padding), 4), "waiting": round(waiting, 4)}


def memory_held() -> dict[str, int]:
    """Return the most bytes that this process has held so far, as far as the system says: memory, device_memory."""
    held = {"memory": peak_memory(), "device_memory": peak_device_memory()}
    return {name: count for name, count in held.items() if count is not None}


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
