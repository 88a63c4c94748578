"""Keeps tests in several processes (make test) to a thread each; leaves out tests of devices that are not there."""

from __future__ import annotations

import os
import tempfile

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once
if kind := os.environ.get("ATEN_CPU_CAPABILITY"):  # torch would run code that it has kept for wider vectors
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"torchinductor-{kind}"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `gpu` where torch finds no CUDA device."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
