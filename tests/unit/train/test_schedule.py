"""The schedule: progress in any unit, phases by share, a linear rise and fall."""

from __future__ import annotations

from itertools import pairwise

import pytest
from pydantic import ValidationError

from bertwright.train.schedule import Phase, ScheduleConfig, rate_factor
from bertwright.train.state import Progress

USED = Progress(step=50, tokens=4_000, epochs=0.5, seconds=90.0, setup_seconds=30.0)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [({"steps": 200}, 0.25), ({"tokens": 16_000}, 0.25), ({"epochs": 2.0}, 0.25), ({"minutes": 4.5}, 0.25)],
)
def test_progress_in_every_unit(duration: dict[str, float], expected: float) -> None:
    # 4.5 minutes are 270 s; 30 of them were set-up, so 60 of 240 are used.
    assert USED.fraction(ScheduleConfig(**duration)) == pytest.approx(expected)


def test_minutes_end_on_the_wall_clock_whatever_the_setup() -> None:
    schedule = ScheduleConfig(minutes=2)
    assert Progress(1, 1, 1, seconds=120.0, setup_seconds=100.0).fraction(schedule) == 1.0
    assert Progress(1, 1, 1, seconds=119.0, setup_seconds=100.0).fraction(schedule) < 1.0
    assert Progress(1, 1, 1, seconds=130.0, setup_seconds=130.0).fraction(schedule) == 1.0


@pytest.mark.parametrize(("progress", "phase"), [(0.0, 0), (0.899, 0), (0.9, 1), (0.99, 1), (1.0, 1)])
def test_phases_are_90_and_10_percent(progress: float, phase: int) -> None:
    assert ScheduleConfig(steps=1000).phase_at(progress) == phase


def test_the_last_tenth_of_the_steps_is_long() -> None:
    schedule = ScheduleConfig(steps=30)
    phases = [schedule.phase_at(step / 30) for step in range(30)]
    assert phases == [0] * 27 + [1] * 3


@pytest.mark.parametrize("bad", [{}, {"steps": 1, "minutes": 1}, {"steps": 0}, {"minutes": -1.0}])
def test_exactly_one_duration(bad: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ScheduleConfig(**bad)


def test_shares_of_phases_sum_to_one() -> None:
    with pytest.raises(ValidationError, match="sum to 1"):
        ScheduleConfig(steps=1, phases=(Phase(length=128, rows=4, share=0.5),))


def factors_of(**settings: object) -> list[float]:
    schedule = ScheduleConfig(steps=1, **settings)  # type: ignore[arg-type]
    return [rate_factor(step / 100, schedule) for step in range(101)]


def test_published_schedule_rises_and_falls() -> None:
    factors = factors_of(warmup=0.1)
    assert factors[0] == 0.0
    assert max(factors) == factors[10] == 1.0
    assert factors[100] == 0.0
    assert all(a < b for a, b in pairwise(factors[:11]))
    assert all(a > b for a, b in pairwise(factors[10:]))
    assert factors_of(warmup=0.0)[0] == 1.0


@pytest.mark.parametrize(("decay", "halfway"), [("linear", 0.5), ("cosine", 0.5), ("one-minus-sqrt", 1 - 0.5**0.5)])
def test_peak_is_held_until_the_decay(decay: str, halfway: float) -> None:
    factors = factors_of(warmup=0.1, decay=decay, decay_share=0.4, final_rate=0.2)
    assert set(factors[10:61]) == {1.0}
    assert factors[80] == pytest.approx(0.2 + 0.8 * halfway)
    assert factors[100] == pytest.approx(0.2)
    assert all(a > b for a, b in pairwise(factors[60:]))


def test_cosine_is_steepest_in_the_middle() -> None:
    factors = factors_of(warmup=0.0, decay="cosine")
    assert factors[25] == pytest.approx(0.5 + 0.5**1.5)


def test_warmup_and_decay_must_fit() -> None:
    with pytest.raises(ValidationError, match="more than"):
        ScheduleConfig(steps=1, warmup=0.5, decay_share=0.6)
