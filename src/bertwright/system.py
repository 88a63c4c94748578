"""Asks the operating system what this process may use, and its allocator to keep memory that is used again."""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of glibc's settings, from its malloc.h ..."""
USUAL_TRIM_THRESHOLD, USUAL_MMAP_MAX = 128 * 1024, 65_536
"""... and what they are from the start: they cannot be read."""
_LOCK, _HOLDERS = threading.Lock(), [0]


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


def peak_memory() -> int | None:
    """Return the most bytes of memory that this process has held, or None where the system does not say."""
    return _peak_of("RUSAGE_SELF")


def peak_memory_of_children() -> int | None:
    """Return the most bytes of memory that any ended child process has held, or None where the system does not say."""
    return _peak_of("RUSAGE_CHILDREN")


def _peak_of(who: str) -> int | None:
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(getattr(resource, who)).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def tune_malloc() -> Iterator[None]:
    """Tell glibc's allocator not to hand freed blocks back to the kernel meanwhile; other allocators are left alone.

    By default each large tensor is mapped when made and unmapped when freed, and the kernel clears every page of it
    again: 31,000 page faults and 60 of 590 ms in a step of recipe fast, size mini, 64 rows. Memory in use stays at its
    peak until the last of those who ask for this is done; what is free then goes back.
    """
    _count(1)
    try:
        yield
    finally:
        _count(-1)


def _count(more: int) -> None:
    """Count who asks for this, in any thread, and set the allocator for the first and after the last of them."""
    import ctypes  # here, as --help should not wait for it

    try:
        library = ctypes.CDLL(None)
        mallopt, trim = library.mallopt, library.malloc_trim
    except (AttributeError, OSError, TypeError):
        return
    with _LOCK:
        _HOLDERS[0] += more
        if _HOLDERS[0] == 1 and more == 1:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        elif _HOLDERS[0] == 0:
            mallopt(M_MMAP_MAX, USUAL_MMAP_MAX)
            mallopt(M_TRIM_THRESHOLD, USUAL_TRIM_THRESHOLD)
            trim(0)
