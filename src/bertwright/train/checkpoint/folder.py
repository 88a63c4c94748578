"""Turns the state of a run into a folder it can go on from, and back: whole or absent, safetensors and JSON only.

RUN/checkpoints/step-1200/   manifest.json (every file with its checksum)  position.json
                             weights.safetensors  optimizer.safetensors
                             (average.safetensors, best.safetensors: where the run keeps such weights)
                             good/ (the same of the state the run would go back to, where that is another step)
RUN/checkpoints/before-decay the same, of a run whose learning rate was held until then: it is never deleted
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bertwright.checksums import damage, write_checksums
from bertwright.errors import ModelError
from bertwright.files import clear_leftovers, read_json, remove, written_aside
from bertwright.log import note
from bertwright.train.checkpoint.snapshot import Snapshot

PREFIX = "step-"
BEFORE_DECAY = "before-decay"
"""The checkpoint of a run at the step from which its learning rate falls."""
DAMAGED = "damaged-"
MANIFEST = "manifest.json"
GOOD = "good"
DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""What safetensors calls the types that weights and moments may have."""


@dataclass(frozen=True)
class Retention:
    """Which checkpoints of a run are kept; all others are deleted once a newer one is whole."""

    newest: int
    """So many of the newest."""
    best: bool = False
    """The one with the lowest held-out loss."""
    hours: float | None = None
    """The first one in every so many hours of training."""


def write_checkpoint(
    run: Path,
    state: Snapshot,
    *,
    identity: Mapping[str, Any],
    good: Snapshot | None = None,
    held_out: float | None = None,
    name: str | None = None,
) -> Path:
    """Write RUN/checkpoints/step-N, whole or not at all, and return its path; OSError passes through.

    `identity` says what the run is (data fingerprint, settings that shape it); `read_checkpoint` compares it. `good` is
    the state the run would go back to, and `held_out` the loss on held-out rows at this step, where it was evaluated.
    One with a `name` has that in the place of step-N.
    """
    folder = run / "checkpoints" / (name or f"{PREFIX}{state.step}")
    with written_aside(folder) as aside:
        aside.mkdir()
        digests = _write_state(aside, state, identity=dict(identity), held_out=held_out)
        if good is not None and good.step != state.step:
            (aside / GOOD).mkdir()
            digests |= {f"{GOOD}/{name}": digest for name, digest in _write_state(aside / GOOD, good).items()}
        write_checksums(aside, MANIFEST, known=digests)
    return folder


def _write_state(folder: Path, state: Snapshot, **more: Any) -> dict[str, str]:
    """Write the files of a state and return the digests of those with tensors."""
    digests = {
        f"{name}.safetensors": write_tensors(folder / f"{name}.safetensors", tensors)
        for name, tensors in state.tensors.items()
    }
    (folder / "position.json").write_text(json.dumps({**state.facts, **more}, indent=2) + "\n", encoding="utf-8")
    return digests


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = [p for p in (run / "checkpoints").glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=step_of)


def kept_before_decay(run: Path) -> list[Path]:
    """Return the checkpoint a longer run goes on from, in a list of one; of none, where the run has none."""
    folder = run / "checkpoints" / BEFORE_DECAY
    return [folder] if (folder / "position.json").is_file() else []


def step_of(folder: Path) -> int:
    """Return the step a checkpoint was written after."""
    return int(folder.name[len(PREFIX) :])


def retain(run: Path, newest: Path, retention: Retention) -> None:
    """Delete every checkpoint that need not be kept, now that `newest` is whole.

    Those of later steps belong to what the run went back from.
    """
    saved = checkpoints(run)
    past = [folder for folder in saved if step_of(folder) <= step_of(newest)]
    keep = {*past[-retention.newest :]}
    facts = {folder: _facts(folder) for folder in past} if retention.best or retention.hours else {}
    losses = {folder: one["held_out"] for folder, one in facts.items() if one.get("held_out") is not None}
    if retention.best and losses:
        keep.add(min(losses, key=lambda folder: losses[folder]))
    if retention.hours:
        spans: dict[int, Path] = {}
        for folder in past:
            seconds = facts[folder].get("position", {}).get("seconds", 0.0)
            spans.setdefault(int(seconds // (3600 * retention.hours)), folder)
        keep |= {folder for span, folder in spans.items() if span}
    for folder in saved:
        if folder not in keep:
            remove(folder)


def best_valid_loss(run: Path) -> float | None:
    """Return the lowest held-out loss of the checkpoints of a run, None where none was evaluated."""
    losses = [_facts(folder).get("held_out") for folder in checkpoints(run)]
    return min((loss for loss in losses if loss is not None), default=None)


def _facts(folder: Path) -> dict[str, Any]:
    """Return what is in the position.json of a checkpoint; nothing where that cannot be read."""
    try:
        return dict(read_json(folder / "position.json"))
    except (OSError, ValueError, TypeError):
        return {}


def newest_whole(run: Path) -> Path | None:
    """Return the newest checkpoint whose every file is as it was written; None where no checkpoint was ever written.

    Damaged ones are set aside under another name, with a note. What a killed process was writing is deleted.
    Raises ModelError where all are damaged.
    """
    clear_leftovers(run / "checkpoints")
    saved = checkpoints(run)
    for folder in reversed(saved):
        reason = damage(folder, MANIFEST)
        if reason is None:
            return folder
        aside = folder.with_name(f"{DAMAGED}{folder.name}")
        remove(aside)
        folder.rename(aside)
        note(f"the checkpoint {folder} is damaged ({reason}): set aside as {aside.name}, the one before is taken")
    if saved:
        raise ModelError(f"every checkpoint of {run} is damaged; restore one from a copy, or start anew elsewhere")
    return None


def read_checkpoint(folder: Path, *, identity: Mapping[str, Any]) -> tuple[Snapshot, Snapshot | None]:
    """Return the state in a checkpoint, and the one to go back to where that is another.

    Raises ModelError where the checkpoint is damaged or belongs to another run (the first difference is named).
    """
    try:
        state = _read_state(folder)
        compare_identity(folder, state.facts["identity"], identity)
        return state, _read_state(folder / GOOD) if (folder / GOOD).is_dir() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise damaged(folder, error) from error


def damaged(folder: Path, error: BaseException) -> ModelError:
    """Return what to raise where a checkpoint cannot be used."""
    return ModelError(f"the checkpoint {folder} is damaged ({error}); delete it to go on from the one before")


def _read_state(folder: Path) -> Snapshot:
    files = sorted(folder.glob("*.safetensors"))
    return Snapshot({file.stem: load_file(file) for file in files}, read_json(folder / "position.json"))


def compare_identity(folder: Path, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ModelError where the run that made a checkpoint is not the one that goes on; the difference is named."""
    other = first_difference(then, now)
    if other is not None:
        name, before, value = other
        raise ModelError(
            f"the checkpoint {folder} was made with {name} = {before!r}, this run has {value!r}; "
            "resume with the same data and settings, or start anew in another --out"
        )


def first_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """Return name, old and new value of the first entry of `now` that `then` has otherwise.

    Sections are looked into, and as many sections in a list.

    >>> first_difference({"watch": {"patience": None}}, {"watch": {"patience": 3}})
    ('watch.patience', None, 3)
    """
    for name, value in now.items():
        before = then.get(name)
        if isinstance(before, list) and isinstance(value, list) and len(before) == len(value):
            before, value = _sections(before), _sections(value)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            inner = first_difference(before, value)
            if inner is not None:
                return f"{name}.{inner[0]}", *inner[1:]
        elif before != value:
            return name, before, value
    return None


def _sections(values: list[Any]) -> list[Any] | dict[str, Any]:
    """Return a list of sections as sections by their place, and any other list as it is."""
    are = bool(values) and all(isinstance(value, Mapping) for value in values)
    return {str(place): value for place, value in enumerate(values)} if are else values


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a safetensors file and return the XXH3 digest (128 bits) of its bytes; OSError passes through.

    The library's own writer first joins all tensors in memory, and keeps the interpreter to itself until the file is on
    disk; here training goes on meanwhile, no second copy is made, and the file need not be read again for its checksum.
    """
    header = _header(tensors)
    digest = xxhash.xxh3_128(header)
    with path.open("wb") as file:
        file.write(header)
        for tensor in tensors.values():
            held = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
            file.write(held)
            digest.update(held)
    return digest.hexdigest()


def _header(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the head of the file: the length of a JSON object, and the object, which says where each tensor lies."""
    places, start = {}, 0
    for name, tensor in tensors.items():
        size = tensor.numel() * tensor.element_size()
        places[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, start + size],
        }
        start += size
    text = json.dumps(places, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
