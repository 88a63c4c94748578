"""Turns the metrics of a run into a sentence at each evaluation: is the loss normal, and if not, what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.course import Lines
from bertwright.train.diagnosis.loss_check import Diagnosis
from bertwright.train.state import TrainState


@dataclass
class DiagnoseCallback(Callback):
    """Leaves "diagnosis" in the notes of an evaluation; stands after who writes lines, and before who shows them.

    check         what is said of the lines of the run so far
    says_normal   whether it is also said along the run that all is well, not at its end alone
    """

    path: Path
    check: Callable[[Lines], Diagnosis]
    says_normal: bool = True
    lines: list[Mapping[str, Any]] = field(default_factory=list)

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Read the lines that are there."""
        self.lines = [*read_metrics(self.path)]

    def on_step(self, report: StepReport) -> None:
        """Take a new line, and look at all of them after an evaluation."""
        line = report.notes.get("line")
        if line is None:
            return
        self.lines.append({name: value for name, value in line.items() if name != "samples"})
        if ("valid" in report.notes or report.last) and "loss" in line:
            found = self.check(self.lines)
            if self.says_normal or report.last or not found.normal:
                report.notes["diagnosis"] = found
