"""Starts the processes that search beside the first one, and ends them with it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ

from bertwright.verbs.calls.tuning.study_call import StudyCall

CODE = "from bertwright.verbs.calls.tuning.study_worker import work; raise SystemExit(work())"
"""What such a process runs: started afresh, it needs no main module of a caller."""


@contextmanager
def helpers(call: StudyCall) -> Iterator[None]:
    """Start the processes that search beside this one, and end them when it is done with them."""
    threads = {"OMP_NUM_THREADS": str(call.threads)}
    started: list[subprocess.Popen[str]] = []
    try:
        for _ in range(call.processes - 1):
            one = subprocess.Popen(
                [sys.executable, "-c", CODE],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                text=True,
                env={**environ, **threads},
            )
            started.append(one)
            assert one.stdin is not None
            one.stdin.write(call.to_json() + "\n")
            one.stdin.close()
        yield
    finally:
        for one in started:
            if one.poll() is None:
                one.terminate()
                one.wait()
