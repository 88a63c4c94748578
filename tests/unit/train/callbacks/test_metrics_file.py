"""Lines of metrics.jsonl: the rates of both optimizers, and MFU by the highest peak rate that was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bertwright.reports.pretrain_result import mfu_of
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.metrics_file import MetricsCallback, MetricsWindow
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.state import Progress


def lines_of(file: Path, *, optimizer: OptimizerConfig, rates: Iterator[float]) -> list[dict[str, Any]]:
    """Three steps of 100 operations in a second each; an evaluation after the second and the third."""
    peak = PeakCallback(lambda: next(rates), next(rates))
    window = MetricsWindow()
    metrics = MetricsCallback(file, window, every=1, lengths=[128], optimizer=optimizer, peak=peak)
    for step in (1, 2, 3):
        sums = {"loss": 1.0, "gradient_norm": 1.0, "steps": 1.0, "tokens": 8.0, "flops": 100.0, "seconds": 1.0}
        notes = {"valid": {"mlm_loss": 1.0}} if step > 1 else {}
        report = StepReport(Progress(step=step), step / 3, 0, 0.5, last=step == 3, sums=sums, notes=notes)
        for callback in (window, peak, metrics):
            callback.on_step(report)
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_optimizer_has_its_rate(name: str, tmp_path: Path) -> None:
    optimizer = OptimizerConfig(name=name, learning_rate=2e-3, muon_learning_rate=0.04)
    line = lines_of(tmp_path / "metrics.jsonl", optimizer=optimizer, rates=iter([1e3] * 3))[0]
    rates = {key: value for key, value in line.items() if "rate" in key}
    assert rates == ({"learning_rate": 1e-3} | ({"muon_learning_rate": 0.02} if name == "muon" else {}))


def test_a_machine_that_was_busy_before_the_first_step_makes_no_mfu_above_one(tmp_path: Path) -> None:
    """The peak is measured again at each evaluation, the highest kept; nothing is cut off at 100%."""
    lines = lines_of(tmp_path / "metrics.jsonl", optimizer=OptimizerConfig(), rates=iter([80.0, 400.0, 200.0]))
    assert [line["mfu"] for line in lines] == [1.25, 0.25, 0.25]
    assert [line["peak_flops"] for line in lines] == [80.0, 400.0, 400.0]
    assert mfu_of(lines, 400.0) == (0.25, 400.0)
    assert mfu_of([{"mfu": 0.5}], 100.0) == (0.5, 100.0)  # a line of an earlier version
