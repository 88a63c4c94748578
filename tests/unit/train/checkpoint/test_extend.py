"""A run made longer: at every moment before its decay it is in the phases in which the shorter one was."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from bertwright.errors import ModelError
from bertwright.train.checkpoint.extend import as_of, extended, without_length
from bertwright.train.checkpoint.folder import compare_identity
from bertwright.train.checkpoint.snapshot import Snapshot
from bertwright.train.interval import More
from bertwright.train.schedule import ScheduleConfig, rate_factor
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.state import Progress

SHARES = (0.1, 0.35, 0.3, 0.2, 0.05)
"""Of the phases; the rate begins to fall in the third where it is held to 0.7, and at its end where to 0.75."""


def write_run(run: Path, config: PretrainConfig, *, setup: float) -> None:
    """Write what `extended` reads of a finished run: how far it was at its last step, and before its decay."""
    schedule = config.schedule
    assert schedule.hold_ends is not None
    for name, share in (("before-decay", schedule.hold_ends), ("step-900", 1.0)):
        (run / "checkpoints" / name).mkdir(parents=True, exist_ok=True)
        amount = {schedule.unit: share * schedule.amount}
        if schedule.unit == "minutes":
            amount = {"seconds": setup + share * (schedule.amount * 60 - setup), "setup_seconds": setup}
        elif schedule.unit == "steps":
            amount = {"step": round(amount["steps"])}
        (run / "checkpoints" / name / "position.json").write_text(json.dumps({"position": amount}))


def moment(schedule: ScheduleConfig, amount: float, setup: float) -> float:
    """Return how far a run is after so many minutes, or steps."""
    progress = Progress(seconds=amount * 60, setup_seconds=setup)
    progress.step = round(amount)
    return progress.fraction(schedule)


@pytest.mark.parametrize("held", [0.7, 0.75])
@pytest.mark.parametrize(("unit", "setup"), [("steps", 0.0), ("minutes", 0.0), ("minutes", 240.0)])
def test_phases_before_the_decay_stay_as_long_as_they_are(tmp_path: Path, unit: str, setup: float, held: float) -> None:
    """In minutes, those of the set-up do not count; and a longer run can be made longer again."""
    phases = [{"length": 16 + place, "rows": 4, "share": share} for place, share in enumerate(SHARES)]
    rates = [{"rate": rate, "share": share} for rate, share in ((0.4, 0.2), (0.3, 0.2), (0.2, 0.6))]
    schedule = {unit: 40, "warmup": 0.05, "decay_share": 1 - held, "phases": phases}
    short = config = resolve("adapt", {"schedule": schedule, "objective": {"mask_phases": rates}})
    first = setup / 60
    for more in (30, 7):
        write_run(tmp_path, config, setup=setup)
        config = extended(tmp_path, config, More(unit, more))
        for amount in np.arange(first, first + held * (40 - first) - 0.01, 1.0 if unit == "steps" else 0.037):
            then, now = (moment(one.schedule, float(amount), setup) for one in (short, config))
            assert short.schedule.phase_at(then) == config.schedule.phase_at(now)
            assert rate_factor(then, short.schedule) == pytest.approx(rate_factor(now, config.schedule))
        assert [phase.share for phase in config.schedule.phases[3:]] == list(SHARES[3:])
    assert config.schedule.amount == 77


def test_all_but_shares_must_stay_as_it_was() -> None:
    phases = [{"length": 16, "rows": 4, "share": 1.0}]
    then = {"schedule": {"steps": 8, "warmup": 0.2, "phases": phases}, "objective": {"mask_phases": phases}}
    schedule = ScheduleConfig(steps=16)
    same = {"schedule": {"steps": 16, "warmup": 0.1, "phases": [{**phases[0], "share": 0.5}]}}
    compare_identity(Path("c"), then, without_length({**same, "objective": {}}, schedule))
    other = {"schedule": {"phases": [{**phases[0], "length": 32}]}, "objective": {"mask_phases": phases}}
    with pytest.raises(ModelError, match=r"schedule\.phases\.0\.length = 16"):
        compare_identity(Path("c"), then, without_length(other, schedule))


def test_the_mean_of_a_shorter_run_has_come_as_far_as_the_longer_one() -> None:
    facts = {"position": {"step": 6}, "average": {"progress": 0.75, "count": 2}}
    assert as_of(Snapshot({}, facts), ScheduleConfig(steps=24)).facts["average"] == {"progress": 0.25, "count": 2}
    assert facts["average"] == {"progress": 0.75, "count": 2}
