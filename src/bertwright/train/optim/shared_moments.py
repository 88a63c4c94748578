"""Turns an optimizer into that of several processes, each of which keeps the moments of some parameters and moves them.

Every process holds all weights and gradients. A parameter belongs to one process, which makes its step and sends the
result to the others: the first stage of Rajbhandari et al. (2020), "ZeRO: Memory Optimizations Toward Training Trillion
Parameter Models". Parameters stay whole, so that optimizers that look at the norm of each (LAMB) make the step of one
process, bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from bertwright.train.parallel.group import Group


def share_moments(optimizer: torch.optim.Optimizer, group: Group) -> None:
    """Have each process of `group` make the steps of some parameters of `optimizer`, in place.

    After it, `optimizer.keeps(parameter)` says whether this process keeps the moments of a parameter.
    """
    parameters = [parameter for held in optimizer.param_groups for parameter in held["params"]]
    owners = dict(zip(map(id, parameters), owners_of([p.numel() for p in parameters], group.size), strict=True))

    def keeps(parameter: Tensor) -> bool:
        return owners[id(parameter)] == group.rank

    def leave_others_out(*_: Any) -> None:
        for parameter in parameters:
            if not keeps(parameter):
                parameter.grad = None

    @torch.no_grad()
    def send(*_: Any) -> None:
        shares = [[p.detach() for p in parameters if owners[id(p)] == rank] for rank in range(group.size)]
        flat = {rank: torch.cat([p.flatten() for p in share]) for rank, share in enumerate(shares) if share}
        for handle in [dist.broadcast(values, rank, async_op=True) for rank, values in flat.items()]:
            handle.wait()
        for rank, values in flat.items():
            if rank != group.rank:
                found = torch.split(values, [p.numel() for p in shares[rank]])
                torch._foreach_copy_(shares[rank], [one.view_as(p) for one, p in zip(found, shares[rank], strict=True)])

    optimizer.register_step_pre_hook(leave_others_out)
    optimizer.register_step_post_hook(send)
    optimizer.keeps = keeps  # type: ignore[attr-defined]


def owners_of(sizes: list[int], processes: int) -> list[int]:
    """Return the process that each parameter of so many numbers belongs to: the largest first, to who has least.

    >>> owners_of([5, 9, 3, 4], 2)
    [1, 0, 0, 1]
    """
    held, owners = [0] * processes, [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        owners[place] = held.index(min(held))
        held[owners[place]] += sizes[place]
    return owners
