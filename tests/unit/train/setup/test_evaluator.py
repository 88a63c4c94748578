"""The number of evaluations: at most 5% of the work by operations counted here, from 1 to 20, never by a clock."""

from __future__ import annotations

import pytest

from bertwright.model.build import named_size
from bertwright.model.config import training_flops
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.evaluator import evaluation_count
from bertwright.train.setup.pretrain_loader import PretrainLoader

SHAPE = named_size("mini", vocab_size=8192)
PHASES = ({"length": 128, "rows": 32, "share": 0.9}, {"length": 512, "rows": 8, "share": 0.1})
MEASURE = build_objective(ObjectiveConfig(), vocab_size=8192, mask_id=4)


class Counted(PretrainLoader):
    """Batches of which only the number of rows is known; a pass over the data is 6,400 rows of 128 or 1,600 of 512."""

    def __init__(self, mask_rate: float = 0.15, **duration: float) -> None:
        self.schedule = ScheduleConfig.model_validate({"phases": PHASES, **duration})
        self.objective = build_objective(ObjectiveConfig(mask_rate=mask_rate), vocab_size=8192, mask_id=4)
        self.shape = SHAPE

    def rows_per_epoch(self, phase: int) -> int:
        return (6400, 1600)[phase]


def work_of(*, seconds: float = 0.0, peak: float = 1.0, **given: float) -> float:
    return Counted(**given).run_flops(peak=peak, seconds=seconds)


def count_of(work: float, *, passes: int = 1) -> int:
    return evaluation_count(SHAPE, MEASURE, rows=1024, length=128, passes=passes, work=work)


def forward(rows: int, length: int) -> float:
    return training_flops(SHAPE, rows=rows, length=length, masked=MEASURE.masked_slots(length)) / 3


def test_work_is_counted_alike_in_every_unit() -> None:
    """900 steps of 32 x 128 and 100 of 8 x 512 are 4,096,000 tokens in full rows, and 5 passes."""
    expected = 3 * (900 * forward(32, 128) + 100 * forward(8, 512))
    assert work_of(steps=1000) == pytest.approx(expected)
    assert work_of(tokens=4_096_000) == pytest.approx(expected)
    assert work_of(epochs=5) == pytest.approx(expected)
    assert work_of(steps=1000, mask_rate=0.3) > expected
    assert work_of(minutes=10, peak=1e9, seconds=500.0) == 250e9
    assert work_of(minutes=10, peak=1e9, seconds=-5.0) == 0


@pytest.mark.parametrize("steps", [1, 30, 100, 600, 1000, 2000, 5000, 10**6])
def test_evaluations_take_at_most_their_share(steps: int) -> None:
    work = work_of(steps=steps)
    count = count_of(work)
    assert 1 <= count <= 20
    assert count == 1 or count * forward(1024, 128) <= 0.05 * work
    assert count == 20 or (count + 1) * forward(1030, 128) > 0.05 * work
    assert count in (1, 20) or count_of(work, passes=2) == count // 2


def test_a_short_run_is_evaluated_at_its_end_and_a_long_one_twenty_times() -> None:
    counts = {steps: count_of(work_of(steps=steps)) for steps in (10, 1000, 100_000)}
    assert counts[10] == 1 < counts[1000] < counts[100_000] == 20
