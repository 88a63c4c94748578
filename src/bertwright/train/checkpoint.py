"""Turns a run into a folder it can go on from, and back: whole or absent, safetensors and JSON only.

RUN/checkpoints/step-1200/   weights.safetensors  optimizer.safetensors  position.json
                             (average.safetensors, best.safetensors: where the run keeps such weights)
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bertwright.errors import ModelError
from bertwright.files import read_json, remove, written_aside
from bertwright.train.average import Average
from bertwright.train.listeners.best import BestListener
from bertwright.train.loop import Position

PREFIX = "step-"


def save_checkpoint(
    run: Path,
    *,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: Average | None,
    position: Position,
    identity: dict[str, Any],
    keep: int,
    best: BestListener | None = None,
) -> Path:
    """Write RUN/checkpoints/step-N and delete all but the newest `keep`; return its path.

    `identity` says what the run is (data fingerprint, settings that shape it); `load_checkpoint` compares it.
    """
    folder = run / "checkpoints" / f"{PREFIX}{position.step}"
    with written_aside(folder) as aside:
        aside.mkdir(parents=True)
        save_file(
            {name: p.detach().contiguous() for name, p in model.named_parameters()}, aside / "weights.safetensors"
        )
        save_file(optimizer_tensors(model, optimizers), aside / "optimizer.safetensors")
        state = {"position": asdict(position), "identity": identity}
        if average is not None:
            save_file(average.weights, aside / "average.safetensors")
            state["average"] = {"progress": average.progress, "count": average.count}
        if best is not None:
            save_file(best.weights, aside / "best.safetensors")
            state["best"] = {"figures": best.figures, "step": best.step, "waited": best.waited}
        (aside / "position.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    for old in checkpoints(run)[:-keep]:
        remove(old)
    return folder


def checkpoints(run: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    found = [p for p in (run / "checkpoints").glob(f"{PREFIX}*") if p.name[len(PREFIX) :].isdigit()]
    return sorted(found, key=lambda path: int(path.name[len(PREFIX) :]))


def load_checkpoint(
    folder: Path,
    *,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    average: Average | None,
    identity: dict[str, Any],
    best: BestListener | None = None,
) -> Position:
    """Load a checkpoint into `model`, `optimizers`, `average` and `best`; return where the run stood.

    Raises ModelError where the checkpoint is damaged or belongs to another run (the first difference is named).
    """
    try:
        state = read_json(folder / "position.json")
        compare_identity(folder, state["identity"], identity)
        weights = load_file(folder / "weights.safetensors")
        moments = load_file(folder / "optimizer.safetensors")
        means = load_file(folder / "average.safetensors") if average is not None else {}
        position = Position(**state["position"])
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
            for name, mean in average.weights.items() if average is not None else ():
                mean.copy_(means[name])
        restore_optimizers(model, optimizers, moments)
        if average is not None:
            average.progress, average.count = state["average"]["progress"], state["average"]["count"]
        if best is not None:
            places = {name: parameter.device for name, parameter in model.named_parameters()}
            kept = load_file(folder / "best.safetensors")
            best.weights = {name: weights.to(places[name]) for name, weights in kept.items()}
            best.figures, best.step, best.waited = (state["best"][name] for name in ("figures", "step", "waited"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"the checkpoint {folder} is damaged ({error}); delete it to go on from the one before"
        ) from error
    return position


def compare_identity(folder: Path, then: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise ModelError where the run that made a checkpoint is not the one that goes on; the difference is named."""
    for name, value in now.items():
        if then.get(name) != value:
            raise ModelError(
                f"the checkpoint {folder} was made with {name} = {then.get(name)!r}, this run has {value!r}; "
                "resume with the same data and settings, or start anew in another --out"
            )


def optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return every tensor of the optimizers' state, named "moment/parameter name"."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{moment}/{names[id(parameter)]}": value.detach().contiguous()
        for optimizer in optimizers
        for parameter, moments in optimizer.state.items()
        for moment, value in moments.items()
    }


def restore_optimizers(model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Put tensors named by `optimizer_tensors` back into the optimizers."""
    parameters = dict(model.named_parameters())
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for key, value in tensors.items():
        moment, name = key.split("/", 1)
        parameter = parameters[name]
        # AdamW's step counter lives on the CPU unless fused on CUDA; moments live beside their parameter.
        owners[id(parameter)].state[parameter][moment] = value.to(parameter.device)
