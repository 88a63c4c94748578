"""Lets sides of a benchmark take turns: each stops after its warm-up and after every turn, and waits for the word.

A side is a process. It prints a line of JSON when it is warm ("ready": seconds since STARTED, of its environment) and
one a turn ("seconds" and what was done in them), and reads a line before each turn. So the sides start and compile side
by side, and nothing is measured while another side works.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import torch


class Gate:
    """The side's end: counts steps, stops at turns of `steps` of them after `warm` first ones."""

    def __init__(self, warm: int, steps: int) -> None:
        self.warm, self.steps, self.done = warm, steps, 0
        self.began = time.perf_counter()
        self.sums: dict[str, float] = {}

    def step(self, **counts: float) -> bool:
        """Count a step and what it did; return False where no further turn is wanted."""
        self.done += 1
        if self.done > self.warm:
            self.sums = {name: self.sums.get(name, 0.0) + value for name, value in counts.items()}
        if self.done < self.warm or (self.done - self.warm) % self.steps:
            return True
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self.done == self.warm:
            self._say({"ready": time.time() - float(os.environ["STARTED"])})
        else:
            self._say({"seconds": now - self.began, "steps": self.steps, **self.sums, "memory": memory()})
        self.sums = {}
        goes_on = sys.stdin.readline().strip() == "go"
        self.began = time.perf_counter()
        return goes_on

    def _say(self, figures: dict[str, Any]) -> None:
        print(json.dumps(figures), flush=True)


def memory() -> int:
    """Return the most bytes that tensors have held on the GPU; 0 without one."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
