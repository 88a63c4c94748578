"""Turns the state of a run into checkpoints and its final model, and checkpoints back, for one process or several."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bertwright.data.pretraining.dataset import Dataset
from bertwright.errors import DataError
from bertwright.files import read_json
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.encoder import Encoder
from bertwright.train.auxiliary import encoder_of
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.checkpoint.extend import as_of, is_of_shorter, without_length
from bertwright.train.checkpoint.folder import (
    BEFORE_DECAY,
    PREFIX,
    Retention,
    best_valid_loss,
    damaged,
    kept_before_decay,
    newest_whole,
    read_checkpoint,
    step_of,
    write_checkpoint,
)
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import MISFITS, Snapshot, restore
from bertwright.train.ema import AVERAGE
from bertwright.train.held_out import loss_to_choose_by
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.parallel.group import Group, full_tensor, launch_name
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import TrainState


def saving(
    out: Path, config: PretrainConfig, state: TrainState, guard: LossSpikeGuard, *, identity: Mapping[str, Any],
    group: Group,
) -> CheckpointCallback:  # fmt: skip
    """Return the callback that has checkpoints of a run written; several processes write their shares of them."""
    engine = config.engine
    write: Callable[..., Path] = write_checkpoint
    if group.size > 1:
        # Imported here: torch.distributed.checkpoint takes a second, which a run of one process need not wait for.
        from bertwright.train.checkpoint.sharded import ShardedWriter

        write = ShardedWriter(group, group.channel(timeout=engine.timeout))
    saver = Saver(
        out,
        state,
        identity=identity,
        retention=Retention(engine.keep, best=engine.keep_best, hours=engine.keep_hours),
        guard=guard,
        beside=[out / "metrics.jsonl"],
        write=write,
        is_main=group.is_main,
    )
    lowest = best_valid_loss(out) if engine.keep_best else None
    return CheckpointCallback(
        saver,
        minutes=engine.checkpoint_minutes,
        steps=engine.checkpoint_steps,
        group=group,
        held_out=lower_loss,
        best=math.inf if engine.keep_best and lowest is None else lowest,
        hold_ends=config.schedule.hold_ends,
    )


def lower_loss(valid: Mapping[str, float]) -> float:
    """Return the lower of the held-out losses of the weights and of their mean."""
    raw, mean = (
        {name.removeprefix(AVERAGE): value for name, value in valid.items() if name.startswith(AVERAGE) is averaged}
        for averaged in (False, True)
    )
    return min(loss_to_choose_by(figures) for figures in (raw, mean) if figures)


def last_checkpoint(out: Path, schedule: ScheduleConfig, group: Group) -> Path | None:
    """Return the newest checkpoint that is whole, as the first process finds it, or None; see `newest_whole`.

    Of a run that was extended, those of the shorter run do not count: it goes on from before the decay.
    """
    found = newest_whole(out) if group.is_main else None
    longer = (found is None or is_of_shorter(found, schedule)) and group.is_main and bool(kept_before_decay(out))
    step = int(group.broadcast(-2 if longer else -1 if found is None else step_of(found)))
    name = BEFORE_DECAY if step == -2 else f"{PREFIX}{step}"
    return None if step == -1 else out / "checkpoints" / name


def resumed(
    checkpoint: Path, state: TrainState, identity: Mapping[str, Any], schedule: ScheduleConfig, *, group: Group
) -> Snapshot:
    """Load a checkpoint into a state; return the one to go back to, or raise ModelError where it does not fit.

    It may have been written by any number of processes. One from before the decay may be of a shorter `schedule`.
    """
    of_shorter = checkpoint.name == BEFORE_DECAY and is_of_shorter(checkpoint, schedule)
    if checkpoint.name == BEFORE_DECAY:
        identity = without_length(identity, schedule)
    if group.size == 1 and not any(checkpoint.glob("shard-*")):
        saved, good = read_checkpoint(checkpoint, identity=identity)
    else:
        from bertwright.train.checkpoint.sharded import read_any

        saved, good = read_any(checkpoint, state, identity=identity, group=group)
    try:
        if of_shorter:
            saved, good = as_of(saved, schedule), None if good is None else as_of(good, schedule)
        for one in (good, saved) if good is not None else (saved,):  # the first to see that it could be gone back to
            restore(state, one)
    except MISFITS as error:
        raise damaged(checkpoint, error) from error
    note(f"going on from step {state.progress.step:,} ({checkpoint})")
    return good or saved


def run_identity(dataset: Dataset, config: PretrainConfig, *, precision: str) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be gone on with; how it is watched may change."""
    settings = config.model_dump(mode="json", exclude={"engine": True, "data": {"others"}})
    if settings["model"]["init"] == "noise":
        del settings["model"]["init"]  # checkpoints of earlier versions do not name it
    for name in ("names", "options", "mask_phases"):
        if not settings["objective"][name]:
            del settings["objective"][name]  # nor these
    for phase in settings["schedule"]["phases"]:
        if not phase["causal"]:
            del phase["causal"]
    if config.start is None:
        del settings["start"]
    if config.data.replay is None:
        del settings["data"]["replay"]
    return {
        "data fingerprint": dataset.manifest["fingerprint"],
        **settings,
        "engine.accumulation": config.engine.accumulation,
        "engine.compile": config.engine.compile,
        "precision": precision,
    }


def require_same(identity: Mapping[str, Any], group: Group) -> None:
    """Raise DataError where another process has other data or settings than this one: each would go its own way."""
    mine = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).digest()
    others = [rank for rank, digest in enumerate(group.gathered(mine)) if digest != mine]
    if others:
        raise DataError(
            f"process {others[0]} has other data or settings than process {group.rank}; give every machine the "
            "same DATA, recipe and flags"
        )


def launched_before(out: Path) -> bool:
    """Say whether the run in a folder was begun by the same call of torchrun, which has since started again."""
    launch, manifest = launch_name(), out / "manifest.json"
    return launch is not None and manifest.is_file() and bool(read_json(manifest).get("launch") == launch)


@torch.no_grad()
def whole_model(state: TrainState, *, sharded: bool) -> Encoder:
    """Return the encoder of a run with all its weights: where they are sharded, gathered into a new one, on the CPU."""
    encoder = encoder_of(state.model)
    if not sharded:
        return encoder
    model = build_encoder(encoder.config)
    targets = dict(model.named_parameters())
    for name, parameter in encoder.named_parameters():
        targets[name].copy_(full_tensor(parameter))
    return model
