"""Turns the parts of a run into checkpoints and its final model, and checkpoints back, for one process or several."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bertwright.errors import ModelError
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.encoder import Encoder
from bertwright.recipes.parts import Parts
from bertwright.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from bertwright.train.distributed import launch_name, whole
from bertwright.train.loop import Position


def saver(out: Path, parts: Parts, position: Position) -> Callable[[], Path]:
    """Return what writes a checkpoint of the run as it stands; several processes write their shares of it."""
    settings: dict[str, Any] = {
        "model": parts.model,
        "optimizers": parts.optimizers,
        "average": parts.average,
        "position": position,
        "identity": run_identity(parts),
        "keep": parts.config.engine.keep,
    }
    if parts.group.size == 1:
        return partial(save_checkpoint, out, **settings)
    # Imported here: torch.distributed.checkpoint takes a second, which a run of one process need not wait for.
    from bertwright.train.sharded_checkpoint import save_sharded

    return partial(save_sharded, out, group=parts.group, **settings)


def resumed(out: Path, parts: Parts) -> Position:
    """Load the last checkpoint of a run into its parts and return where it stood, or raise ModelError.

    It may have been written by any number of processes.
    """
    saved = checkpoints(out)
    if not saved:
        raise ModelError(f"{out} holds no checkpoint to resume from; delete it and start anew without --resume")
    folder: Path = saved[-1]
    load: Callable[..., Position] = load_checkpoint
    if parts.group.size > 1 or any(folder.glob("shard-*")):
        from bertwright.train.sharded_checkpoint import load_sharded, newest_whole

        found = newest_whole(out, parts.group)
        if found is None:
            raise ModelError(f"all checkpoints of {out} are damaged; delete it and start anew without --resume")
        if found != folder:
            note(f"{folder} is damaged; the checkpoint before it is taken")
        folder, load = found, partial(load_sharded, group=parts.group)
    position = load(
        folder,
        model=parts.model,
        optimizers=parts.optimizers,
        average=parts.average,
        identity=run_identity(parts),
    )
    note(f"going on from step {position.step:,} ({folder})")
    return position


def run_identity(parts: Parts) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be gone on with; how it is watched may change."""
    settings = parts.config.model_dump(mode="json", exclude={"engine"})
    return {
        "data fingerprint": parts.manifest["fingerprint"],
        **settings,
        "engine.accumulation": parts.config.engine.accumulation,
        "engine.compile": parts.config.engine.compile,
        "precision": parts.precision,
    }


def launched_before(manifest: dict[str, Any]) -> bool:
    """Say whether a run was begun by the same call of torchrun, which has since started its processes anew."""
    launch = launch_name()
    return launch is not None and manifest.get("launch") == launch


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
    from bertwright.train.parallel import outside_blocks_whole

    return outside_blocks_whole(parts.model)
