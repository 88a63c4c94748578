"""Turns the state of a run, which changes at each step, into a copy that does not, and such a copy back.

The copy is what a checkpoint is written from while training goes on, and what a run goes back to when its loss bursts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.host_copies import Arrival, host_copy
from bertwright.train.state import TrainState, fits

MISFITS = (KeyError, TypeError, ValueError, AttributeError, RuntimeError)
"""What `restore` raises where a snapshot does not fit the state."""


@dataclass(frozen=True)
class Snapshot:
    """A copy of a state, at one step.

    tensors  by file (weights, optimizer, and, where the run keeps such, average and best) and name
    facts    what else there is, as JSON has it: the position, how far the average and the best have come
    arrival  when the tensors are there: nobody reads them before
    """

    tensors: dict[str, dict[str, Tensor]]
    facts: dict[str, Any]
    arrival: Arrival = field(default_factory=Arrival)

    @property
    def step(self) -> int:
        """The step it was made after."""
        return int(self.facts["position"]["step"])

    @property
    def bytes(self) -> int:
        """Memory that the tensors take."""
        return sum(t.numel() * t.element_size() for tensors in self.tensors.values() for t in tensors.values())


def copy_state(train_state: TrainState) -> Snapshot:
    """Return a copy of a state in the memory of the host, so that weights and moments lie on a GPU once.

    Nobody waits for it: the GPU sends it before it goes on with the next step. Of sharded weights each process keeps
    its share on its GPU.
    """
    tensors: dict[str, dict[str, Tensor]] = {
        "weights": {name: parameter.detach() for name, parameter in train_state.model.named_parameters()},
        "optimizer": optimizer_tensors(train_state.model, train_state.optimizers),
    }
    facts: dict[str, Any] = {"position": train_state.position()}
    if (average := train_state.average) is not None:
        tensors["average"] = average.weights
        facts["average"] = {"progress": average.progress, "count": average.count}
    if (best := train_state.best) is not None:
        tensors["best"] = best.weights
        facts["best"] = {"figures": best.figures, "step": best.step, "waited": best.waited}
    copies = {file: {name: host_copy(t) for name, t in held.items()} for file, held in tensors.items()}
    return Snapshot(copies, facts, Arrival.mark(next(train_state.model.parameters()).device))


@torch.no_grad()
def restore(train_state: TrainState, snapshot: Snapshot) -> None:
    """Copy a snapshot back into a state; it stays apart. Raises one of MISFITS where they do not fit."""
    snapshot.arrival.wait()
    for name, parameter in train_state.model.named_parameters():
        parameter.copy_(snapshot.tensors["weights"][name])
    restore_optimizers(train_state.model, train_state.optimizers, snapshot.tensors["optimizer"])
    if (average := train_state.average) is not None:
        for name, mean in average.weights.items():
            mean.copy_(snapshot.tensors["average"][name])
        facts = snapshot.facts["average"]
        if not fits(facts["progress"], float) or not fits(facts["count"], int):
            raise TypeError("the average has come no known way")
        average.progress, average.count = facts["progress"], facts["count"]
    if (best := train_state.best) is not None:
        best.weights = {name: kept.clone() for name, kept in snapshot.tensors["best"].items()}
        facts = snapshot.facts["best"]
        if not all(fits(facts[name], kind) for name, kind in (("figures", dict), ("step", int), ("waited", int))):
            raise TypeError("the best evaluation has no known figures")
        best.figures, best.step, best.waited = facts["figures"], facts["step"], facts["waited"]
    train_state.restore_position(snapshot.facts["position"])


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
        # All of it lies beside the parameter, the count of its steps too: else each step would wait for that.
        owners[id(parameter)].state[parameter][moment] = value.to(parameter.device, copy=True)
