"""Runs one side of a benchmark in a process of its own, without a network; ends the benchmark where that fails."""

from __future__ import annotations

import os
import subprocess
from typing import Any


def run(words: list[Any]) -> str:
    """Return what a command prints; raises SystemExit with what it says of its failure."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([str(word) for word in words], capture_output=True, text=True, env=environment)
    if ran.returncode:
        raise SystemExit(ran.stderr)
    return ran.stdout
