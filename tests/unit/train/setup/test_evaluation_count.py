"""The number of evaluations: at most 5% of the work by operations counted here, from 1 to 20, never by a clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bertwright.model.build import named_size
from bertwright.model.config import training_flops
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.evaluation_count import evaluation_count, run_work

SHAPE = named_size("mini", vocab_size=8192)
PHASES = ({"length": 128, "rows": 32, "share": 0.9}, {"length": 512, "rows": 8, "share": 0.1})
MEASURE = build_objective(ObjectiveConfig(), vocab_size=8192, mask_id=4)


def parts(*, average: object = None, mask_rate: float = 0.15, **duration: float) -> Any:
    """Return what of the parts of a run counts; one pass over its data is 6,400 rows of 128 or 1,600 of 512."""
    schedule = ScheduleConfig.model_validate({"phases": PHASES, **duration})
    objective = build_objective(ObjectiveConfig(mask_rate=mask_rate), vocab_size=8192, mask_id=4)
    sources = [SimpleNamespace(rows_per_epoch=6400), SimpleNamespace(rows_per_epoch=1600)]
    config = SimpleNamespace(schedule=schedule)
    return SimpleNamespace(config=config, shape=SHAPE, objective=objective, sources=sources, average=average)


def forward(rows: int, length: int) -> float:
    return training_flops(SHAPE, rows=rows, length=length, masked=MEASURE.masked_slots(length)) / 3


def test_work_is_counted_alike_in_every_unit() -> None:
    """900 steps of 32 x 128 and 100 of 8 x 512 are 4,096,000 tokens in full rows, and 5 passes."""
    expected = 3 * (900 * forward(32, 128) + 100 * forward(8, 512))
    assert run_work(parts(steps=1000), peak=1.0, seconds=0.0) == pytest.approx(expected)
    assert run_work(parts(tokens=4_096_000), peak=1.0, seconds=0.0) == pytest.approx(expected)
    assert run_work(parts(epochs=5), peak=1.0, seconds=0.0) == pytest.approx(expected)
    assert run_work(parts(steps=1000, mask_rate=0.3), peak=1.0, seconds=0.0) > expected
    assert run_work(parts(minutes=10), peak=1e9, seconds=500.0) == 250e9
    assert run_work(parts(minutes=10), peak=1e9, seconds=-5.0) == 0


@pytest.mark.parametrize("steps", [1, 30, 100, 600, 1000, 2000, 5000, 10**6])
def test_evaluations_take_at_most_their_share(steps: int) -> None:
    run = parts(steps=steps)
    work = run_work(run, peak=1.0, seconds=0.0)
    count = evaluation_count(run, MEASURE, rows=1024, work=work)
    assert 1 <= count <= 20
    assert count == 1 or count * forward(1024, 128) <= 0.05 * work
    assert count == 20 or (count + 1) * forward(1030, 128) > 0.05 * work
    both = evaluation_count(parts(steps=steps, average=object()), MEASURE, rows=1024, work=work)
    assert count in (1, 20) or both == count // 2


def test_a_short_run_is_evaluated_at_its_end_and_a_long_one_twenty_times() -> None:
    counts = {
        steps: evaluation_count(
            parts(steps=steps), MEASURE, rows=1024, work=run_work(parts(steps=steps), peak=1.0, seconds=0.0)
        )
        for steps in (10, 1000, 100_000)
    }
    assert counts[10] == 1 < counts[1000] < counts[100_000] == 20
