"""Turns the metrics of a run into a sentence at each evaluation: is the loss normal, and if not, what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.loss_check import diagnose
from bertwright.train.diagnosis.reference_runs import RunKind
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.state import TrainState


@dataclass
class DiagnoseCallback(Callback):
    """Leaves "diagnosis" in the notes of an evaluation; stands after who writes lines, and before who shows them."""

    path: Path
    kind: RunKind | None
    guard: LossSpikeGuard
    lines: list[Mapping[str, Any]] = field(default_factory=list)

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Read the lines that are there."""
        self.lines = [*read_metrics(self.path)]

    def on_step(self, report: StepReport) -> None:
        """Take a new line, and look at all of them after an evaluation."""
        line = report.notes.get("line")
        if line is None or self.kind is None:
            return
        self.lines.append({name: value for name, value in line.items() if name != "samples"})
        if "valid" in report.notes and "loss" in line:
            report.notes["diagnosis"] = diagnose(self.lines, self.kind, skipped=self.guard.skipped)
