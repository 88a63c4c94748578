"""Asks the operating system what this process may use, in ways that Linux, macOS and Windows all answer."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile


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


def name_compiled_code_folder() -> None:
    """Name the folder of torch's compiled code where the user has no name, as in a container started with --user.

    torch before 2.13 asks for the name of the user, and ends with a KeyError where there is none.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        number = os.getuid() if hasattr(os, "getuid") else "unknown"
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"torchinductor_{number}"))


def peak_memory_of_children() -> int | None:
    """Return the most bytes of memory that any ended child process has held, or None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
