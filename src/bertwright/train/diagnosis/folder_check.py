"""Turns a RUN folder into the diagnosis of its loss; a run of an earlier version has none."""

from __future__ import annotations

from pathlib import Path

from bertwright.files import read_json
from bertwright.nested import read_toml
from bertwright.train.diagnosis.course import Lines
from bertwright.train.diagnosis.loss_check import Diagnosis, diagnose
from bertwright.train.diagnosis.reference_runs import kind_of_run
from bertwright.train.diagnosis.task_check import diagnose_task
from bertwright.train.task_setup.finetune_config import PUBLISHED_RATE


def diagnose_run(run: Path, lines: Lines) -> Diagnosis | None:
    """Return what the loss of a run looks like after these lines of its metrics.jsonl.

    Raises OSError, ValueError, LookupError or TypeError where its files are damaged.
    """
    if not (run / "manifest.json").is_file():
        return None
    manifest = read_json(run / "manifest.json")
    if "constant_loss" in manifest:
        return diagnose_task(lines, manifest["constant_loss"], usual_rate=manifest.get("usual_rate", PUBLISHED_RATE))
    if not any("mlm_loss" in line for line in lines):
        return None
    kind = kind_of_run(read_toml(run / "config.toml"), manifest)
    result = read_json(run / "result.json") if (run / "result.json").is_file() else {}
    return None if kind is None else diagnose(lines, kind, skipped=int(result.get("skipped", 0)))
