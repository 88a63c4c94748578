"""Turns the parts of a run into checkpoints and its final model, and checkpoints back, for one process or several."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from bertwright.errors import DataError
from bertwright.files import read_json
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.encoder import Encoder
from bertwright.train.checkpoint.folder import (
    PREFIX,
    Retention,
    damaged,
    newest_whole,
    read_checkpoint,
    step_of,
    write_checkpoint,
)
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import MISFITS, Snapshot, TrainState, restore
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.parallel.group import Group, launch_name, whole
from bertwright.train.setup.run import Parts


def saving(out: Path, parts: Parts, moving: TrainState, guard: LossSpikeGuard, *, beside: Path) -> Saver:
    """Return what writes checkpoints of the run; several processes write their shares of them."""
    engine, group = parts.config.engine, parts.group
    write: Callable[..., Path] = write_checkpoint
    if group.size > 1:
        # Imported here: torch.distributed.checkpoint takes a second, which a run of one process need not wait for.
        from bertwright.train.checkpoint.sharded import ShardedWriter

        write = ShardedWriter(group, group.channel(timeout=engine.timeout))
    return Saver(
        out,
        moving,
        identity=run_identity(parts),
        retention=Retention(engine.keep, best=engine.keep_best, hours=engine.keep_hours),
        good=lambda: guard.good,
        beside=[beside],
        write=write,
        first=group.first,
    )


def last_checkpoint(out: Path, group: Group) -> Path | None:
    """Return the newest checkpoint that is whole, as the first process finds it, or None; see `newest_whole`."""
    found = newest_whole(out) if group.first else None
    step = int(group.broadcast(-1 if found is None else step_of(found)))
    return None if step < 0 else out / "checkpoints" / f"{PREFIX}{step}"


def resumed(checkpoint: Path, moving: TrainState, identity: Mapping[str, Any], *, group: Group) -> Snapshot:
    """Load a checkpoint into what moves; return the state to go back to, or raise ModelError where it does not fit.

    It may have been written by any number of processes.
    """
    if group.size == 1 and not any(checkpoint.glob("shard-*")):
        state, good = read_checkpoint(checkpoint, identity=identity)
    else:
        from bertwright.train.checkpoint.sharded import read_any

        state, good = read_any(checkpoint, moving, identity=identity, group=group)
    try:
        for one in (good, state) if good is not None else (state,):  # the first to see that it could be gone back to
            restore(moving, one)
    except MISFITS as error:
        raise damaged(checkpoint, error) from error
    note(f"going on from step {moving.position.step:,} ({checkpoint})")
    return good or state


def run_identity(parts: Parts) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be gone on with; how it is watched may change."""
    settings = parts.config.model_dump(mode="json", exclude={"engine": True, "data": {"others"}})
    if settings["model"]["init"] == "noise":
        del settings["model"]["init"]  # checkpoints of earlier versions do not name it
    for name in ("names", "options"):
        if not settings["objective"][name]:
            del settings["objective"][name]  # nor these
    return {
        "data fingerprint": parts.manifest["fingerprint"],
        **settings,
        "engine.accumulation": parts.config.engine.accumulation,
        "engine.compile": parts.config.engine.compile,
        "precision": parts.precision,
    }


def require_same(parts: Parts) -> None:
    """Raise DataError where another process has other data or settings than this one: each would go its own way."""
    mine = hashlib.sha256(json.dumps(run_identity(parts), sort_keys=True).encode()).digest()
    others = [rank for rank, digest in enumerate(parts.group.gathered(mine)) if digest != mine]
    if others:
        raise DataError(
            f"process {others[0]} has other data or settings than process {parts.group.rank}; give every machine the "
            "same DATA, recipe and flags"
        )


def launched_before(out: Path) -> bool:
    """Say whether the run in a folder was begun by the same call of torchrun, which has since started anew."""
    launch, manifest = launch_name(), out / "manifest.json"
    return launch is not None and manifest.is_file() and bool(read_json(manifest).get("launch") == launch)


@torch.no_grad()
def whole_model(parts: Parts) -> Encoder:
    """Return the model with all its weights: where they are sharded, gathered into a new one, on the CPU."""
    if not parts.sharded:
        return parts.model
    model = build_encoder(parts.shape)
    targets = dict(model.named_parameters())
    for name, parameter in parts.model.named_parameters():
        targets[name].copy_(whole(parameter))
    return model


def whole_for_methods(parts: Parts) -> AbstractContextManager[None]:
    """Return a context in which any method of the model can be called; where weights are sharded, by all processes."""
    if not parts.sharded:
        return nullcontext()
    from bertwright.train.parallel.wrap import outside_blocks_whole

    return outside_blocks_whole(parts.model)
