"""Turns what of a run moves, step by step, into a copy that stands still, and puts such a copy back.

The copy is what a checkpoint is written from while training goes on, and what a run goes back to when its loss bursts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.callbacks.best import BestListener
from bertwright.train.ema import EMA
from bertwright.train.loop import Progress, fits

MISFITS = (KeyError, TypeError, ValueError, AttributeError, RuntimeError)
"""What `restore` raises where a state is not one of what moves."""


@dataclass(frozen=True)
class TrainState:
    """What of a run moves: all that a checkpoint holds. No random state: see rng.py."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    position: Progress
    average: EMA | None = None
    best: BestListener | None = None


@dataclass(frozen=True)
class Snapshot:
    """A copy of what moves, at one step.

    tensors  by file (weights, optimizer, and, where the run keeps such, average and best) and name
    told     what else there is, as JSON has it: the position, how far the average and the best have come
    """

    tensors: dict[str, dict[str, Tensor]]
    told: dict[str, Any]

    @property
    def step(self) -> int:
        """The step it was made after."""
        return int(self.told["position"]["step"])

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(t.numel() * t.element_size() for tensors in self.tensors.values() for t in tensors.values())


def copy_state(moving: TrainState) -> Snapshot:
    """Return a copy of what moves, its tensors beside the originals: on a GPU the step waits for no transfer."""
    tensors: dict[str, dict[str, Tensor]] = {
        "weights": {name: parameter.detach() for name, parameter in moving.model.named_parameters()},
        "optimizer": optimizer_tensors(moving.model, moving.optimizers),
    }
    told: dict[str, Any] = {"position": asdict(moving.position)}
    if (average := moving.average) is not None:
        tensors["average"] = average.weights
        told["average"] = {"progress": average.progress, "count": average.count}
    if (best := moving.best) is not None:
        tensors["best"] = best.weights
        told["best"] = {"figures": best.figures, "step": best.step, "waited": best.waited}
    copies = {file: {name: t.detach().clone() for name, t in held.items()} for file, held in tensors.items()}
    return Snapshot(copies, told)


@torch.no_grad()
def restore(moving: TrainState, state: Snapshot) -> None:
    """Put a copy back into what moves; the copy stays apart. Raises one of MISFITS where they do not fit."""
    weights, places = state.tensors["weights"], {}
    for name, parameter in moving.model.named_parameters():
        parameter.copy_(weights[name])
        places[name] = parameter.device
    restore_optimizers(moving.model, moving.optimizers, state.tensors["optimizer"])
    if (average := moving.average) is not None:
        for name, mean in average.weights.items():
            mean.copy_(state.tensors["average"][name])
        told = state.told["average"]
        if not fits(told["progress"], float) or not fits(told["count"], int):
            raise TypeError("the average has come no known way")
        average.progress, average.count = told["progress"], told["count"]
    if (best := moving.best) is not None:
        best.weights = {name: kept.to(places[name], copy=True) for name, kept in state.tensors["best"].items()}
        told = state.told["best"]
        if not all(fits(told[name], kind) for name, kind in (("figures", dict), ("step", int), ("waited", int))):
            raise TypeError("the best evaluation has no known figures")
        best.figures, best.step, best.waited = told["figures"], told["step"], told["waited"]
    moving.position.become(state.told["position"])


def optimizer_tensors(model: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return every tensor of the optimizers' state, named "moment/parameter name"."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{moment}/{names[id(parameter)]}": value.detach()
        for optimizer in optimizers
        for parameter, moments in optimizer.state.items()
        for moment, value in moments.items()
    }


def restore_optimizers(model: nn.Module, optimizers: list[torch.optim.Optimizer], tensors: dict[str, Tensor]) -> None:
    """Give the optimizers the state named by `optimizer_tensors`, and no other; the tensors are copied."""
    parameters = dict(model.named_parameters())
    owners = {id(p): optimizer for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for optimizer in optimizers:
        optimizer.state.clear()
    for key, value in tensors.items():
        moment, name = key.split("/", 1)
        parameter = parameters[name]
        if value.numel() != 1 and value.shape != parameter.shape:
            raise ValueError(f"{key} is of shape {tuple(value.shape)}, not {tuple(parameter.shape)}")
        # AdamW's step counter lives on the CPU unless fused on CUDA; moments live beside their parameter.
        owners[id(parameter)].state[parameter][moment] = value.to(parameter.device, copy=True)
