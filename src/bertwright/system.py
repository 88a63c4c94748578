"""Asks the operating system what this process may use, in ways that Linux, macOS and Windows all answer."""

from __future__ import annotations

import os
import sys


def usable_cores() -> int:
    """Return how many cores this process may use: those it is bound to where the system says so, else all."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except (AttributeError, OSError):  # macOS and Windows know no such question
        return max(1, os.cpu_count() or 1)


def wanted_threads() -> int:
    """Return how many threads OMP_NUM_THREADS asks for at the outermost level ("4,2": 4), else the usable cores."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(first) if first.isdecimal() and int(first) > 0 else usable_cores()


def peak_memory_of_children() -> int | None:
    """Return the most bytes of memory that any ended child process has held, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
