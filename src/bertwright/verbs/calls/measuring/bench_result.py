"""Turns what was measured into the result of `bench`: figures with machine and versions, and a table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from bertwright.device import machine, versions
from bertwright.files import write_json
from bertwright.log import Facts, ResultTable
from bertwright.result import Result


def bench_result(
    title: str,
    figures: Mapping[str, Any],
    shown: Mapping[str, str] | ResultTable,
    device: torch.device,
    out: Path | None,
) -> Result:
    """Return figures with machine and versions, shown as facts or a table, and write them where `out` names a file."""
    whole = {**figures, "machine": machine(device), "versions": versions()}
    if out is not None:
        write_json(Path(out), whole)
    return Result(whole, shown if isinstance(shown, ResultTable) else Facts(title, shown))
