"""Turns a pre-trained teacher and a DATA folder into a RUN folder with a student of general use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.distillation.task_inputs import DistillInputs
from bertwright.result import Result
from bertwright.verbs.calls.distilling.task_distillation import RunCall


def distill_pretrain(data: Path, inputs: DistillInputs, call: RunCall, settings: Mapping[str, Any]) -> Result:
    """Train a student of general use."""
    raise NotImplementedError
