"""Turns a finished run into a longer one that goes on from where its learning rate was last held.

    warm-up | held ............ | decay |                      the run, and before-decay where the held rate ends
    warm-up | held ............ : ........... held | decay |   the longer run: the same up to there

So the longer run is the one that was asked for at first with the longer time, and a warm-up and phases of as many
steps: the phase in which the rate begins to fall, or which ends there, is the longer one. The decay of the shorter run
is done again, later. `pretrain --resume --steps +N`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
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

    The warm-up and the phases before that in which the rate begins to fall stay as long as they are; the decay, and the
    phases in it, have their shares of the longer run.
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
    if not saved or _progress(saved[-1]).fraction(schedule) < 1:
        raise UsageError(f"{more}: the run in {out} is not done; let it end with --resume alone, then extend it")
    if not kept_before_decay(out):
        raise ModelError(
            f"{more}: {out / 'checkpoints' / BEFORE_DECAY}, from which the run would go on, is not there; begin a "
            "longer run in another --out"
        )
    longer = schedule.amount + more.amount
    setup = _progress(out / "checkpoints" / BEFORE_DECAY).setup_seconds / 60 if more.unit == "minutes" else 0.0
    before, now = schedule.amount - setup, longer - setup
    settings = config.model_dump(exclude_none=True)
    settings["schedule"] |= {more.unit: round(longer) if more.unit == "steps" else longer}
    settings["schedule"]["warmup"] = schedule.warmup * before / now
    for phases in (settings["schedule"]["phases"], settings["objective"]["mask_phases"]):
        shares = lengthened([phase["share"] for phase in phases], hold_ends=schedule.hold_ends, kept=before / now)
        for phase, share in zip(phases, shares, strict=True):
            phase["share"] = share
    again = schedule.amount * (1 - schedule.hold_ends)
    note(
        f"the run goes on to {longer:g} {more.unit} from before its decay: {more.amount:g} more, and "
        f"{again:g} of the decay once more"
    )
    return compose(PretrainConfig, settings)


def lengthened(shares: Sequence[float], *, hold_ends: float, kept: float) -> list[float]:
    """Return the shares of phases in a longer run, of which as many steps as before are `kept` times the share.

    The phase in which the held rate begins to fall, at `hold_ends`, or which ends there, is the one that gets longer.
    Those before it stay as long as they are, those after it have their shares of the longer run.

    >>> lengthened([0.5, 0.3, 0.2], hold_ends=0.8, kept=0.5)
    [0.25, 0.55, 0.2]
    """
    if not shares:
        return []
    held = next((place for place, end in enumerate(accumulate(shares)) if end > hold_ends - 1e-9), len(shares) - 1)
    before, after = [share * kept for share in shares[:held]], shares[held + 1 :]
    return [*before, 1.0 - sum(before) - sum(after), *after]


def _progress(checkpoint: Path) -> Progress:
    """Return how far a run had come when it made a checkpoint."""
    try:
        progress = Progress()
        progress.restore(read_json(checkpoint / "position.json")["position"])
        return progress
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
    """Return the identity of a run without what an extension changes: how long it is, and shares of it."""
    kept = {name: value for name, value in identity["schedule"].items() if name not in (schedule.unit, "warmup")}
    kept["phases"] = _without_shares(kept["phases"])
    objective = dict(identity["objective"])
    if "mask_phases" in objective:
        objective["mask_phases"] = _without_shares(objective["mask_phases"])
    return {**identity, "schedule": kept, "objective": objective}


def _without_shares(phases: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in phase.items() if name != "share"} for phase in phases]


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
