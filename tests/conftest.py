"""Keeps tests that run beside each other in several processes (make test) to one thread each, unless told otherwise."""

from __future__ import annotations

import os
import tempfile

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once
if kind := os.environ.get("ATEN_CPU_CAPABILITY"):  # torch would run code that it has kept for wider vectors
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"torchinductor-{kind}"))
