"""Freed memory stays in the process: measured in page faults, in a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from bertwright.train.memory import keep_freed_memory
if {keep}:
    keep_freed_memory()
def work():
    tensors = [torch.zeros(12_000_000) for _ in range(3)]
for _ in range(8):
    work()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    work()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the allocator is not glibc's")
def test_freed_tensors_are_not_handed_back_to_the_kernel() -> None:
    """Four times three tensors of 48 MB: 140,000 pages of 4 KiB where each is mapped anew; the first rounds settle."""
    faults = {
        keep: int(subprocess.run([sys.executable, "-c", PROGRAM.format(keep=keep)], capture_output=True).stdout)
        for keep in (False, True)
    }
    assert faults[True] < 200 < 1_000 < faults[False]
