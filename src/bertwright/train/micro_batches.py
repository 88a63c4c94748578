"""Turns a batch that is too large for memory into gradients, some rows at a time: the same ones, but for rounding.

Where the loss is a mean over targets, each part is trained on by itself and weighs by its number of targets. Where
rows are compared with one another, all are scored first, nothing kept; the gradient of the loss by the scores then goes
back through some rows at a time, which are scored again (Gao et al., 2021, "Scaling Deep Contrastive Learning Batch
Size under Memory Limited Setup"). Dropout is that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.errors import TrainingError
from bertwright.files import human_bytes
from bertwright.types import Loss, LossParts, PartSums

ROOM = 2**29
"""Bytes that what a model computes from some rows may take until the backward pass; more for large models:"""
ROOM_BY_WEIGHTS = 2.5
"""So many times the bytes of the weights."""
SHORT, SHORT_ROOM = 128, 4
"""Rows of so many tokens or fewer may take so many times that: what they gain by company weighs more."""
MEMINFO = Path("/proc/meminfo")
GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current"), "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
        "total_inactive_file",
    ),
)
"""The limit of a container, what is used of it, and the part of that which is files: they can be read again."""
USABLE = 0.9
"""Fraction of the memory of a GPU that tensors find room in."""
STATE = 4
"""Gradients, two moments and the best weights so far: numbers for each weight that is trained."""


@dataclass(frozen=True)
class MicroBatches:
    """How the batches of a model are split.

    row_bytes(length)  memory that a row of so many tokens takes until the backward pass
    room(length)       bytes there are for rows of so many tokens
    fewest             parts there are at least, of batches of as many rows
    """

    model: nn.Module
    objective: Any
    cast: Callable[[], Any]
    row_bytes: Callable[[int], int]
    room: Callable[[int], int]
    fewest: int = 1

    def slices(self, example: Any) -> list[slice]:
        """Return which rows of a batch are trained on together: parts of similar size, as few as there is room for."""
        rows, length = len(example.input_ids), example.longest
        needed = -(-rows // max(1, self.room(length) // self.row_bytes(length)))
        parts = max(needed, min(rows, self.fewest))
        return [slice(rows * part // parts, rows * (part + 1) // parts) for part in range(parts)]

    def backward(
        self,
        example: Any,
        slices: list[slice],
        forward_loss: Callable[[Any], Any],
        begin: Callable[[int], None],
        *,
        scale: float = 1.0,
    ) -> Loss:
        """Add the gradient of `scale` times the loss of a batch to the parameters, which have none; return the loss.

        `begin(row)` sets the random state for rows from there on.
        """
        if self.objective.sums_over_rows:
            return self._each_by_itself(example, slices, forward_loss, begin, scale)
        return self._scored_twice(example, slices, begin, scale)

    def _each_by_itself(
        self,
        example: Any,
        slices: list[slice],
        forward_loss: Callable[[Any], Any],
        begin: Callable[[int], None],
        scale: float,
    ) -> Loss:
        totals, masses, parts = list[Tensor](), list[Tensor](), LossParts()
        for rows in slices:
            begin(rows.start)
            loss = forward_loss(example.cut(rows))
            weight = loss.mass.detach().float()
            torch.autograd.backward(loss.total * (weight * scale))
            # A mean over nothing is no number.
            totals.append(torch.where(weight > 0, loss.total.detach() * weight, 0.0))
            masses.append(weight)
            parts = {name: _of_some(sums, weight).plus(parts.get(name)) for name, sums in loss.parts.items()}
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        mass = sum(masses[1:], masses[0])
        torch._foreach_div_(gradients, mass)
        return Loss(sum(totals[1:], totals[0]) / mass, parts)

    def _scored_twice(self, example: Any, slices: list[slice], begin: Callable[[int], None], scale: float) -> Loss:
        with torch.no_grad(), torch.compiler.set_stance("force_eager"):
            scores = torch.cat([self._scores(example, rows, begin) for rows in slices]).float().requires_grad_()
        loss: Loss = self.objective.loss(scores, example)
        torch.autograd.backward(loss.total * scale)
        assert scores.grad is not None
        for rows in slices:
            found = self._scores(example, rows, begin)
            torch.autograd.backward(found, scores.grad[rows].to(found.dtype))
        return Loss(loss.total.detach(), loss.parts)

    def _scores(self, example: Any, rows: slice, begin: Callable[[int], None]) -> Tensor:
        begin(rows.start)
        with self.cast():
            scores: Tensor = self.model(example.cut(rows))
        return scores


def _of_some(sums: PartSums, weight: Tensor) -> PartSums:
    """Return the sums of some rows, none where their loss is a mean over nothing, of no `weight`."""
    return sums if sums.sum is None else replace(sums, sum=torch.where(weight > 0, sums.sum, 0.0))


def room_for(model: nn.Module, row_bytes: Callable[[int], int], *, longest: int, what: str) -> Callable[[int], int]:
    """Return the bytes that rows of a length may take while a model is trained: half of what the machine has at most.

    What is free at the moment changes nothing: the same call gives the same model. Raises TrainingError where even the
    longest row does not fit into it.
    """
    weights = sum(4 * parameter.numel() for parameter in model.parameters())
    state = STATE * sum(4 * parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    room, free, machine = max(ROOM, round(ROOM_BY_WEIGHTS * weights)), free_memory(), machine_memory()
    need = state + row_bytes(longest)
    if free is not None and need > free:
        raise TrainingError(
            f"{what} takes about {human_bytes(need)} of memory with rows of {longest} tokens, and {human_bytes(free)} "
            "are free: give a smaller --seq-length, a smaller model, or a machine with more memory"
        )
    most = SHORT_ROOM * room if machine is None else max(row_bytes(longest), machine // 2 - state)
    return lambda length: min(most, room * SHORT_ROOM if length <= SHORT else room)


def room_on_gpu(model: nn.Module, device: torch.device) -> Callable[[int], int]:
    """Return the bytes that rows may take on a GPU while a model is trained: what its weights and their state leave.

    What rows take is counted in float32 and uncompiled, so that there is room to spare. What is free at the moment
    changes nothing.
    """
    state = sum(4 * (1 + STATE * parameter.requires_grad) * parameter.numel() for parameter in model.parameters())
    room = max(1, round(USABLE * torch.cuda.get_device_properties(device).total_memory) - state)
    return lambda length: room


def endless_room(length: int) -> int:
    """Return the bytes that rows of a length may take where nobody has measured how many there are: any number."""
    return 2**62


def free_memory(meminfo: Path = MEMINFO, groups: tuple[tuple[Path, Path, str], ...] = GROUPS) -> int | None:
    """Return the bytes that are free, in the machine and in the container; None where the system does not say."""
    found = []
    for line in _text(meminfo).splitlines():
        if line.startswith("MemAvailable:"):
            found.append(1024 * int(line.split()[1]))
    for limit, used, cached in groups:
        most, taken = _text(limit).strip(), _text(used).strip()
        if most.isdigit() and taken.isdigit():
            lines = dict(
                line.split() for line in _text(used.parent / "memory.stat").splitlines() if line.count(" ") == 1
            )
            found.append(max(0, int(most) - int(taken) + int(lines.get(cached, 0))))
    return min(found, default=None)


def machine_memory(meminfo: Path = MEMINFO, groups: tuple[tuple[Path, Path, str], ...] = GROUPS) -> int | None:
    """Return the bytes that the machine, or the container, has in all; None where the system does not say."""
    found = [1024 * int(line.split()[1]) for line in _text(meminfo).splitlines() if line.startswith("MemTotal:")]
    found += [int(most) for limit, _, _ in groups if (most := _text(limit).strip()).isdigit()]
    return min(found, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
