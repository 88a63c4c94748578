"""Helps with a study in a process of its own: runs trials until the time is up, and leaves the winner to its parent."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from os import environ
from pathlib import Path

from bertwright.device import on_device
from bertwright.errors import BertwrightError
from bertwright.log import note
from bertwright.search.clock import StudyClock
from bertwright.search.shared_study import opened
from bertwright.verbs.calls.study_call import StudyCall, begin, search

CODE = "from bertwright.verbs.calls.tune_worker import work; raise SystemExit(work())"


def work() -> int:
    """Take part in the study of the call on stdin, to the end of its search; return the exit code."""
    call = StudyCall.from_json(sys.stdin.readline())
    try:
        with on_device(device_of(call)):
            tunable = call.tunable()
            runs = begin(call, tunable, spent=0.0)
            with opened(Path(call.out), tunable) as shared:
                search(call, tunable, shared, StudyClock(shared.study, 60 * call.minutes), runs=runs)
    except BertwrightError as error:
        note(f"a helping process ended: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def device_of(call: StudyCall) -> str:
    """Return the device that a study asks for."""
    return str(call.settings.get("engine", {}).get("device", "auto"))


@contextmanager
def helpers(call: StudyCall) -> Iterator[list[subprocess.Popen[str]]]:
    """Start the processes that search beside this one, and end them where the search ends by an error."""
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
        yield started
        for one in started:
            one.wait()
    finally:
        for one in started:
            if one.poll() is None:
                one.terminate()
                one.wait()
