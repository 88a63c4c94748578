"""Keeps tests that run beside each other in several processes (make test) to one thread each, unless told otherwise."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, which reads it once
