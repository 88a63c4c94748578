"""Freed memory stays in the process: measured in page faults, in a process of its own."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import resource, torch
from contextlib import nullcontext
from bertwright.system import tune_malloc
def work():
    tensors = [torch.zeros(12_000_000) for _ in range(3)]
def faults():
    for _ in range(8):
        work()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        work()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
with tune_malloc(), tune_malloc():
    kept = faults()
    held = resident() - before
print(kept, held, resident() - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the allocator is not glibc's")
def test_freed_tensors_are_not_handed_back_to_the_kernel() -> None:
    """Four times three tensors of 48 MB: 140,000 pages of 4 KiB where each is mapped again; the first rounds settle.

    Afterwards memory goes back.
    """
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    kept, held, left = (int(number) for number in done.stdout.split())
    assert kept < 200
    assert held > 140_000_000 > 40_000_000 > left
