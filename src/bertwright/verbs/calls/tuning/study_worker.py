"""Helps with a study in a process of its own: runs trials until the time is up, and leaves the winner to its parent."""

from __future__ import annotations

import sys
from pathlib import Path

from bertwright.device import on_device
from bertwright.errors import BertwrightError
from bertwright.log import note
from bertwright.search.clock import StudyClock
from bertwright.search.shared_study import opened
from bertwright.verbs.calls.tuning.study_call import StudyCall
from bertwright.verbs.calls.tuning.study_run import begin, search, tunable_of


def work() -> int:
    """Take part in the study of the call on stdin, to the end of its search; return the exit code."""
    call = StudyCall.from_json(sys.stdin.readline())
    try:
        with on_device(call.device):
            tunable = tunable_of(call)
            runs = begin(call, tunable, spent=0.0)
            with opened(Path(call.out), tunable) as shared:
                search(call, tunable, shared, StudyClock(shared.study, 60 * call.minutes), runs=runs)
    except BertwrightError as error:
        note(f"a helping process ended: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
