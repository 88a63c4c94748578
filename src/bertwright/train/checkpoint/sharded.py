"""Turns the state of several processes into a folder, each writing its share, that any number of them goes on from.

RUN/checkpoints/step-1200/   manifest.json  position.json  shard-00001-model-00001-of-00001.safetensors  shard-00002-...
                             good/ (the same of the state the run would go back to, where that is another step)

Written and cut again by torch.distributed.checkpoint, in its safetensors form: its usual one keeps a pickled index, and
nothing here is ever unpickled. Tensors are named weights/NAME, optimizer/MOMENT/NAME and average/NAME; the header of
each file says where in a tensor its rows belong. The folder of a run must be on a disk that all machines see.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from bertwright.checksums import digest_of, write_checksums
from bertwright.errors import BertwrightError
from bertwright.files import flush, read_json, written_aside
from bertwright.train.checkpoint.folder import GOOD, MANIFEST, PREFIX, compare_identity, damaged, read_checkpoint
from bertwright.train.checkpoint.snapshot import Snapshot
from bertwright.train.parallel.group import Group
from bertwright.train.parallel.wrap import put
from bertwright.train.state import TrainState

DAMAGE = (OSError, ValueError, KeyError, TypeError, IndexError, AssertionError, RuntimeError, SafetensorError)
NONE = "-" * 32
"""The digest of a file that a process had nothing to write to; as long as one of XXH3 (128 bits)."""


@dataclass(frozen=True)
class ShardedWriter:
    """Writes checkpoints together with the other processes of `group`, in messages of its own.

    Those run beside the messages of training, from another thread: `channel` is made for them alone.
    """

    group: Group
    channel: dist.ProcessGroup

    def __call__(
        self,
        run: Path,
        state: Snapshot,
        *,
        identity: Mapping[str, Any],
        good: Snapshot | None = None,
        held_out: float | None = None,
        name: str | None = None,
    ) -> Path:
        """Write RUN/checkpoints/step-N, whole or not at all, and return its path; see `write_checkpoint`.

        Every process must call it for the same step. What several hold, one of them writes.
        """
        folder = run / "checkpoints" / (name or f"{PREFIX}{state.step}")
        if not self.group.is_main:
            self._write(folder.with_name(f".{folder.name}.partial"), state, good)
            return folder
        with written_aside(folder) as aside:
            aside.mkdir()
            (aside / GOOD).mkdir()
            digests = self._write(aside, state, good)
            _write_json(aside / "position.json", {**state.facts, "identity": dict(identity), "held_out": held_out})
            if good is not None and good.step != state.step:
                _write_json(aside / GOOD / "position.json", good.facts)
            else:
                (aside / GOOD).rmdir()
            write_checksums(aside, MANIFEST, known=digests)
        return folder

    def _write(self, aside: Path, state: Snapshot, good: Snapshot | None) -> dict[str, str]:
        """Write the shards of a state and of the one to go back to; return the digests of those of all processes."""
        dist.barrier(self.channel)
        digests: dict[str, str] = {}
        states = {"": state} if good is None or good.step == state.step else {"": state, f"{GOOD}/": good}
        for place, one in states.items():
            writer = HuggingFaceStorageWriter(str(aside / place), save_distributed=True)
            try:
                save(_flat(one), storage_writer=writer, process_group=self.channel)
            except CheckpointException as error:
                raise _unwritten(aside, error) from error
            names = [f"{place}shard-{rank + 1:05}-model-00001-of-00001.safetensors" for rank in range(self.group.size)]
            mine = aside / names[self.group.rank]
            flush(mine)
            found = self.group.gathered((digest_of(mine) if mine.exists() else NONE).encode(), self.channel)
            digests |= {name: digest.decode() for name, digest in zip(names, found, strict=True)}
        return {name: digest for name, digest in digests.items() if digest != NONE}


def _unwritten(aside: Path, error: CheckpointException) -> Exception:
    """Return what to raise where shards could not be written: what the system reported, in whichever process."""
    failures = [failure[0] for failure in error.failures.values()]
    from_system = next((failure for failure in failures if isinstance(failure, OSError)), None)
    if from_system is not None:
        return from_system
    reasons = "; ".join(sorted({str(failure) for failure in failures}))
    return BertwrightError(
        f"{aside} could not be written ({reasons}); go on with --resume: the checkpoint before is whole"
    )


def is_sharded(folder: Path) -> bool:
    """Say whether a checkpoint was written by several processes."""
    return any(folder.glob("shard-*.safetensors"))


def read_any(
    folder: Path, train_state: TrainState, *, identity: Mapping[str, Any], group: Group
) -> tuple[Snapshot, Snapshot | None]:
    """Return this process's share of a checkpoint of any number of processes, and of the state to go back to.

    The shares are those of `train_state`, which is left as it is. Raises ModelError where the checkpoint is damaged or
    belongs to another run.
    """
    if not is_sharded(folder):
        states = read_checkpoint(folder, identity=identity)
        return _share(states[0], train_state), None if states[1] is None else _share(states[1], train_state)
    try:
        facts = read_json(folder / "position.json")
        compare_identity(folder, facts["identity"], identity)
        state = _read(folder, train_state, facts, group)
        if not (folder / GOOD).is_dir():
            return state, None
        return state, _read(folder / GOOD, train_state, read_json(folder / GOOD / "position.json"), group)
    except DAMAGE as error:
        raise damaged(folder, error) from error
    except CheckpointException as error:
        raise damaged(folder, next(iter(error.failures.values()))[0]) from error


def _read(folder: Path, train_state: TrainState, facts: dict[str, Any], group: Group) -> Snapshot:
    reader = HuggingFaceStorageReader(str(folder))
    entries = reader.read_metadata().state_dict_metadata.items()
    targets = _targets({n: e.size for n, e in entries if isinstance(e, TensorStorageMetadata)}, train_state)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # meant: a run of one process
        load(dict(targets), storage_reader=reader, no_dist=group.size == 1)
    return Snapshot(_by_file(targets), facts)


def _share(state: Snapshot, train_state: TrainState) -> Snapshot:
    """Return of a state with whole tensors the rows and tensors that this process keeps."""
    whole = _flat(state)
    targets = _targets({name: value.shape for name, value in whole.items()}, train_state)
    for name, target in targets.items():
        put(target, whole[name].view(target.shape))
    return Snapshot(_by_file(targets), state.facts)


def _flat(state: Snapshot) -> dict[str, Tensor]:
    """Return the tensors of a state by "file/name"; counters as vectors of one, which have a first and last row."""
    return {
        f"{file}/{name}": value.view(1) if value.ndim == 0 else value
        for file, tensors in state.tensors.items()
        for name, value in tensors.items()
    }


def _by_file(flat: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return tensors by file and name: the reverse of `_flat`. Before the first step there are moments of nothing."""
    files: dict[str, dict[str, Tensor]] = {"optimizer": {}}
    for key, value in flat.items():
        file, name = key.split("/", 1)
        files.setdefault(file, {})[name] = value.view(()) if name.startswith("step/") else value
    return files


def _targets(sizes: Mapping[str, torch.Size], train_state: TrainState) -> dict[str, Tensor]:
    """Return new tensors to load into: of those saved, what this process keeps, each like its parameter.

    Raises KeyError or ValueError where what was saved does not fit the model.
    """
    parameters = dict(train_state.model.named_parameters())
    owners = {id(p): o for o in train_state.optimizers for group in o.param_groups for p in group["params"]}
    targets: dict[str, Tensor] = {}
    for key, size in sizes.items():
        file, name = key.split("/", 1)
        moment, name = name.split("/", 1) if file == "optimizer" else ("", name)
        parameter = parameters[name]
        owner = owners.get(id(parameter))
        keeps = getattr(owner, "keeps", None)  # of optimizers whose moments are shared out among processes
        if moment and keeps is not None and not keeps(parameter):
            continue
        targets[key] = torch.zeros(1) if moment == "step" else torch.zeros_like(parameter)
        if size.numel() != targets[key].numel():
            raise ValueError(f"{key} is of shape {tuple(size)}, not {tuple(targets[key].shape)}")
    return targets


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
