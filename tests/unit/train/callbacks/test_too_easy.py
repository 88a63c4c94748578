"""A loss that is too easy is said once, of what was counted in the part of the run that says it."""

from __future__ import annotations

import pytest

from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.too_easy import TooEasyCallback
from bertwright.train.state import Progress


def warnings(right: float, capsys: pytest.CaptureFixture[str], *, early: float | None = None) -> int:
    callback = TooEasyCallback(64)
    for step in range(1, 101):
        share = right if early is None or step >= 10 else early
        sums = {"embed_correct": 64 * share, "embed_count": 64.0}
        callback.on_step(StepReport(Progress(step=step), step / 100, 0, 1.0, last=step == 100, sums=sums))
    return capsys.readouterr().err.count("hard-negatives")


def test_it_warns_where_nearly_every_text_finds_its_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert warnings(0.99, capsys) == 1
    assert warnings(0.9, capsys) == 0
    assert warnings(0.99, capsys, early=0.0) == 1  # the first steps do not count
