"""Short real runs say at evaluations whether their loss is normal: a healthy one, and one with too high a rate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bertwright.train.callbacks import report_page
from bertwright.verbs.pretrain import pretrain
from bertwright.verbs.show import show

SHORT: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 36, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {"compile": False, "precision": "fp32", "log_every": 3, "evaluations": 2, "evaluation_rows": 32},
}


def test_a_healthy_run_and_one_with_far_too_high_a_rate(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page is there along the run, the line of the log and lines of metrics have padding and waiting."""
    monkeypatch.setattr(report_page, "SHARE", 1000.0)
    along: list[str] = []
    write = report_page.ReportCallback.on_step

    def on_step(self: report_page.ReportCallback, report: Any) -> None:
        write(self, report)
        if "valid" in report.notes and not report.last:
            along.append((tmp_path / "well" / "report.html").read_text(encoding="utf-8"))

    monkeypatch.setattr(report_page.ReportCallback, "on_step", on_step)
    pretrain(data, tmp_path / "well", recipe="classic", settings=SHORT)
    said = capsys.readouterr().err
    assert "The loss is normal" in said
    assert "padding" in said
    assert "step 18," in along[0]
    last = json.loads((tmp_path / "well" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 <= last["padding"] < 1
    assert 0 <= last["waiting"] < 1
    assert last["fraction"] == 1.0
    assert last["memory"] > 10_000_000
    assert show(tmp_path / "well")["loss_check"]["normal"]
    monkeypatch.undo()
    schedule = {**SHORT["schedule"], "warmup": 0}
    wild = {**SHORT, "optimizer": {"learning_rate": 0.5, "clip_norm": 0.0}, "schedule": schedule}
    pretrain(data, tmp_path / "ill", recipe="classic", settings=wild)
    assert "The loss is not normal: it diverged" in capsys.readouterr().err
    assert "not normal" in (tmp_path / "ill" / "report.html").read_text(encoding="utf-8")
