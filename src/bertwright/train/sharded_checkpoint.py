"""Turns a run of several processes into a folder, each writing its share, that any number of processes goes on from.

RUN/checkpoints/step-1200/   shard-00001-model-00001-of-00001.safetensors  shard-00002-...  position.json

Written and cut anew by torch.distributed.checkpoint, in its safetensors form: its usual one keeps a pickled index, and
nothing here is ever unpickled. Tensors are named weights/NAME, optimizer/MOMENT/NAME and average/NAME; the header of
each file says where in a tensor its rows belong. position.json holds the SHA-256 of each file; it is written last.
The folder of a run must be on a disk that all machines see.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from bertwright.errors import BertwrightError, ModelError
from bertwright.files import read_json, remove
from bertwright.train.average import Average
from bertwright.train.checkpoint import PREFIX, checkpoints, compare_identity
from bertwright.train.distributed import Group
from bertwright.train.loop import Position
from bertwright.train.muon import Muon
from bertwright.train.parallel import put

DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, AssertionError, RuntimeError, SafetensorError)


def save_sharded(
    run: Path,
    *,
    group: Group,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: Average | None,
    position: Position,
    identity: dict[str, Any],
    keep: int,
) -> Path:
    """Write RUN/checkpoints/step-N together, and delete all but the newest `keep`; return its path.

    Every process of `group` must call it at the same step. What several hold, one of them writes.
    """
    folder = run / "checkpoints" / f"{PREFIX}{position.step}"
    aside = folder.with_name(f".{folder.name}.partial")
    if group.first:
        remove(aside)
        aside.mkdir(parents=True)
    group.wait()
    try:
        save(
            _tensors(model, optimizers, average),
            storage_writer=HuggingFaceStorageWriter(str(aside), save_distributed=True),
        )
    except CheckpointException as error:
        reason = "; ".join(sorted({str(failure[0]) for failure in error.failures.values()}))
        raise BertwrightError(
            f"the checkpoint {folder} could not be written ({reason}); the one before is whole"
        ) from error
    digests = group.gathered(_digest(_shard(aside, group.rank)))
    if group.first:
        shards = {_shard(aside, rank).name: bytes(digest).hex() for rank, digest in enumerate(digests) if any(digest)}
        state: dict[str, Any] = {"position": asdict(position), "identity": identity, "shards": shards}
        if average is not None:
            state["average"] = {"progress": average.progress, "count": average.count}
        _write_last(aside / "position.json", state)
        remove(folder)
        os.replace(aside, folder)
        for old in checkpoints(run)[:-keep]:
            remove(old)
    group.wait()
    return folder


def is_sharded(folder: Path) -> bool:
    """Say whether a checkpoint was written by several processes."""
    return any(folder.glob("shard-*.safetensors"))


def newest_whole(run: Path, group: Group) -> Path | None:
    """Return the newest checkpoint of a run whose files all have their SHA-256, or None; each process reads a share."""
    for folder in reversed(checkpoints(run)):
        if not group.any(not _whole(folder, group)):
            return folder
    return None


def load_sharded(
    folder: Path,
    *,
    group: Group,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: Average | None,
    identity: dict[str, Any],
) -> Position:
    """Load a checkpoint of any number of processes into those of `group`; return where the run stood.

    It may also be the checkpoint of a single process. Raises ModelError where it is damaged or of another run.
    """
    try:
        state = read_json(folder / "position.json")
        compare_identity(folder, state["identity"], identity)
        if is_sharded(folder):
            reader = HuggingFaceStorageReader(str(folder))
            entries = reader.read_metadata().state_dict_metadata.items()
            sizes = {name: entry.size for name, entry in entries if isinstance(entry, TensorStorageMetadata)}
            wanted = _wanted(sizes, model, optimizers, average)
            load(wanted, storage_reader=reader, no_dist=group.size == 1)
        else:
            tensors = _plain_tensors(folder, average)
            wanted = _wanted({name: value.shape for name, value in tensors.items()}, model, optimizers, average)
            for name, target in wanted.items():
                put(target, tensors[name].view(target.shape))
        _place(wanted, model, optimizers)
        if average is not None:
            average.progress, average.count = state["average"]["progress"], state["average"]["count"]
        return Position(**state["position"])
    except (*DAMAGE, CheckpointException) as error:
        raise ModelError(
            f"the checkpoint {folder} is damaged ({str(error).strip().splitlines()[-1]}); delete it to go on from the "
            "one before"
        ) from error


def _tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer], average: Average | None) -> dict[str, Tensor]:
    """Return all there is to save by name, each tensor or this process's rows of it; counters as vectors of one."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {f"weights/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter, moments in optimizer.state.items():
            for moment, value in moments.items():
                found[f"optimizer/{moment}/{names[id(parameter)]}"] = value.view(1) if value.ndim == 0 else value
    for name, mean in average.weights.items() if average is not None else ():
        found[f"average/{name}"] = mean
    return found


def _wanted(
    sizes: Mapping[str, torch.Size], model: nn.Module, optimizers: list[torch.optim.Optimizer], average: Average | None
) -> dict[str, Tensor]:
    """Return the tensors to load into, by name: those of the run, and new ones for the moments this process keeps."""
    parameters = dict(model.named_parameters())
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    wanted: dict[str, Tensor] = {f"weights/{name}": parameter.detach() for name, parameter in parameters.items()}
    wanted |= {f"average/{name}": mean for name, mean in (average.weights if average is not None else {}).items()}
    for key, size in sizes.items():
        if key.startswith("optimizer/"):
            parameter = parameters[key.split("/", 2)[2]]
            owner = owners[id(parameter)]
            if not isinstance(owner, Muon) or owner.keeps(parameter):
                counter = size.numel() == 1 and parameter.numel() > 1
                wanted[key] = torch.zeros(1) if counter else torch.zeros_like(parameter)
    for key, target in wanted.items():
        if sizes[key].numel() != target.numel():
            raise ValueError(f"{key} is of shape {tuple(sizes[key])}, not {tuple(target.shape)}")
    return wanted


@torch.no_grad()
def _place(loaded: Mapping[str, Tensor], model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> None:
    """Hand loaded moments to their optimizers; weights and means were loaded in place."""
    parameters = dict(model.named_parameters())
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for key, value in loaded.items():
        if key.startswith("optimizer/"):
            _, moment, name = key.split("/", 2)
            parameter = parameters[name]
            counter = moment == "step"
            owners[id(parameter)].state[parameter][moment] = value.view(()).to(parameter.device) if counter else value


def _plain_tensors(folder: Path, average: Average | None) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of a single process, by the names of one of several."""
    found = {f"weights/{name}": value for name, value in load_file(folder / "weights.safetensors").items()}
    found |= {f"optimizer/{name}": value for name, value in load_file(folder / "optimizer.safetensors").items()}
    means = load_file(folder / "average.safetensors") if average is not None else {}
    return found | {f"average/{name}": value for name, value in means.items()}


def _shard(folder: Path, rank: int) -> Path:
    return folder / f"shard-{rank + 1:05}-model-00001-of-00001.safetensors"


def _digest(path: Path) -> bytes:
    """Return the SHA-256 of a file, or zeros where a process had nothing to write."""
    if not path.exists():
        return bytes(32)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _whole(folder: Path, group: Group) -> bool:
    """Say whether this process's share of the files of a checkpoint are as they were written."""
    try:
        shards: dict[str, str] = read_json(folder / "position.json").get("shards", {})
    except (OSError, ValueError):
        return False
    mine = sorted(shards)[group.rank :: group.size]
    return all(_digest(folder / Path(name).name).hex() == shards[name] for name in mine)


def _write_last(path: Path, state: dict[str, Any]) -> None:
    """Write JSON and see it onto the disk; the shards were by their writers."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(state, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
