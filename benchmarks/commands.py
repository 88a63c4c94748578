"""Runs one side of a benchmark in a process of its own, without a network; ends the benchmark where that fails."""

from __future__ import annotations

import os
import subprocess
from typing import Any


def run(words: list[Any], *, threads: int | None = None) -> str:
    """Return what a command prints, on so many threads or all; raises SystemExit with what it says of its failure."""
    held = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **held}
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return ran.stdout
