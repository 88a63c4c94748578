"""Turns a finished run into a longer one that goes on from where its learning rate was last held.

    warm-up | held ............ | decay |                      the run, and before-decay where the held rate ends
    warm-up | held ............ : ........... held | decay |   the longer run: the same up to there

So the longer run is the one that was asked for at first with the longer time and a warm-up of as many steps. The decay
of the shorter one is done again, later. `pretrain --resume --steps +N`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertwright.config import compose
from bertwright.errors import ModelError, UsageError
from bertwright.files import read_json
from bertwright.log import note
from bertwright.train.checkpoint.folder import BEFORE_DECAY, checkpoints, damaged, kept_before_decay
from bertwright.train.checkpoint.snapshot import Snapshot
from bertwright.train.interval import More
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import Progress


def extended(out: Path, config: PretrainConfig, more: More) -> PretrainConfig:
    """Return the settings of the run in `out`, which has `config`, made longer.

    The warm-up and the length of all before the decay keep their size, so the decay has its share of the longer run.
    Raises UsageError or ModelError where the run is not one that can be extended.
    """
    schedule = config.schedule
    if schedule.unit != more.unit:
        raise UsageError(f"{more}: the run in {out} is measured in {schedule.unit}; give --{schedule.unit} +N")
    if schedule.hold_ends is None:
        raise UsageError(
            f"{more}: the learning rate of the run in {out} decays from the start, so nothing longer goes on from it; "
            "a run can be extended whose rate is held at first: --recipe adapt, or --schedule.decay-share 0.2"
        )
    saved = checkpoints(out)
    if not saved or _fraction(saved[-1], schedule) < 1:
        raise UsageError(f"{more}: the run in {out} is not done; let it end with --resume alone, then extend it")
    if not kept_before_decay(out):
        raise ModelError(
            f"{more}: {out / 'checkpoints' / BEFORE_DECAY}, from which the run would go on, is not there; begin a "
            "longer run in another --out"
        )
    longer = {
        more.unit: schedule.amount + more.amount,
        "warmup": schedule.warmup * schedule.amount / (schedule.amount + more.amount),
    }
    if more.unit == "steps":
        longer["steps"] = round(longer["steps"])
    settings = config.model_dump(exclude_none=True)
    settings["schedule"] = settings["schedule"] | longer
    again = schedule.amount * (1 - schedule.hold_ends)
    note(
        f"the run goes on to {longer[more.unit]:g} {more.unit} from before its decay: {more.amount:g} more, and "
        f"{again:g} of the decay once more"
    )
    return compose(PretrainConfig, settings)


def _fraction(checkpoint: Path, schedule: ScheduleConfig) -> float:
    """Return how far along a run a checkpoint was made."""
    try:
        progress = Progress()
        progress.restore(read_json(checkpoint / "position.json")["position"])
        return progress.fraction(schedule)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise damaged(checkpoint, error) from error


def is_of_shorter(checkpoint: Path, schedule: ScheduleConfig) -> bool:
    """Say whether a checkpoint was made by the run before it was extended to `schedule`."""
    try:
        then = read_json(checkpoint / "position.json")["identity"]["schedule"][schedule.unit]
        return bool(then < schedule.amount)
    except (OSError, ValueError, LookupError, TypeError):
        return False


def without_length(identity: Mapping[str, Any], schedule: ScheduleConfig) -> dict[str, Any]:
    """Return the identity of a run without what an extension changes: how long it is, and the share of its warm-up."""
    kept = {name: value for name, value in identity["schedule"].items() if name not in (schedule.unit, "warmup")}
    return {**identity, "schedule": kept}


def as_of(snapshot: Snapshot, schedule: ScheduleConfig) -> Snapshot:
    """Return the state of a shorter run as one of `schedule`: its mean of the weights has come as far as the run there.

    Raises one of MISFITS where it holds no position.
    """
    if "average" not in snapshot.facts:
        return snapshot
    progress = Progress()
    progress.restore(snapshot.facts["position"])
    average = {**snapshot.facts["average"], "progress": progress.fraction(schedule)}
    return replace(snapshot, facts={**snapshot.facts, "average": average})
