"""Evaluations come at even shares of a run, or every so many steps or seconds of training, resumed or not."""

from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.evaluation import EvaluateCallback
from bertwright.train.interval import Interval
from bertwright.train.state import Progress, TrainState

STEPS, SETUP = 20, 100.0


def progress_at(step: int) -> Progress:
    """Return where a run stands after `step` steps of 3 seconds each, and 100 seconds of setup."""
    return Progress(step=step, seconds=SETUP + 3.0 * step, setup_seconds=SETUP)


def evaluated(begin: int = 0, *, done: bool = True, **given: Any) -> list[int]:
    """Return the steps of a run, gone on with at step `begin`, after which it evaluates."""
    callback = EvaluateCallback(held_out=lambda: {"loss": 1.0}, samples=list, **given)
    state = TrainState(nn.Module(), [], progress_at(begin), callbacks_done=done)
    callback.on_begin(state, begin / STEPS)
    found = []
    for step in range(begin + done, STEPS + 1):
        report = StepReport(progress_at(step), step / STEPS, 0, 1.0, last=step == STEPS)
        callback.on_step(report)
        found += [step] * ("valid" in report.notes)
    return found


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ({"times": 4}, [5, 10, 15, 20]),
        ({"times": 0}, []),
        ({"times": 1, "every": Interval.parse(6)}, [6, 12, 18, 20]),
        ({"times": 1, "every": Interval.parse("30s")}, [10, 20]),
        ({"times": 1, "every": Interval.parse("7s")}, [3, 5, 7, 10, 12, 14, 17, 19, 20]),
        ({"times": 0, "every": Interval.parse(6)}, []),
    ],
)
def test_when_a_run_evaluates(given: dict[str, Any], steps: list[int]) -> None:
    assert evaluated(**given) == steps
    for begin in (1, 6, 10, 19):
        assert evaluated(begin, **given) == [step for step in steps if step > begin]
    for begin in steps:  # stopped while it evaluated: that evaluation is made again
        assert evaluated(begin, done=False, **given)[0] == begin
