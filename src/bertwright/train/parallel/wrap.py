"""Turns a model and its loss into those of several processes: all of the weights in each, or a share of them.

ddp    every process holds all weights; gradients are summed while the backward pass goes on
       (Li et al., 2020, "PyTorch Distributed: Experiences on Accelerating Data Parallel Training")
fsdp   every process holds its share of each weight, gradient and moment, and gathers a block's weights while it
       works on them (Zhao et al., 2023, "PyTorch FSDP: Experiences on Scaling Fully Sharded Data Parallel")
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from bertwright.types import Loss

Parallel = Literal["ddp", "fsdp"]
ForwardLoss = Callable[[Any], Loss]
BUCKETS = 16
"""Messages that the gradients of a small model are sent in, about."""


class _Replica(nn.Module):
    """A model and its loss as one module: DDP must see the forward pass it is to follow."""

    def __init__(self, model: nn.Module, forward_loss: ForwardLoss) -> None:
        super().__init__()
        self.model = model
        self.forward_loss = forward_loss

    def forward(self, example: Any) -> Loss:
        return self.forward_loss(example)


def replicated(
    model: nn.Module, forward_loss: ForwardLoss, *, all_used: bool
) -> tuple[ForwardLoss, Callable[[], AbstractContextManager[Any]]]:
    """Return `forward_loss` whose backward pass means gradients over the processes, and a context in which it does not.

    Gradients are sent in buckets, each as soon as it is full, while those of earlier blocks are computed. `all_used`
    says that every weight gets a gradient in every step; where not, DDP looks for those that do not: which these are
    changes with the phases of a run, so that it cannot be told once for all.
    """
    ddp = DistributedDataParallel(
        _Replica(model, forward_loss),
        find_unused_parameters=not all_used,
        gradient_as_bucket_view=True,
        bucket_cap_mb=bucket_megabytes(model),
    )
    return ddp, ddp.no_sync


def bucket_megabytes(model: nn.Module) -> float:
    """Return how many megabytes of gradients are sent together: of a small model fewer, or all would leave at the end.

    Each message has a start to pay for (10 microseconds and more), so that buckets have 1 MB at least; 25, which is
    torch's own size, at most.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return min(25.0, max(1.0, size / 2**20 / BUCKETS))


def shard(model: nn.Module, *, dtype: torch.dtype = torch.float32) -> None:
    """Cut the weights of `model` up among the processes, in place: each block on its own, then what is left.

    They are gathered as `dtype`, and the gradients of what was gathered summed in float32, which both weights and
    moments are kept in. While a block is worked on, the weights of the next are gathered, on the way there and back.
    """
    # Inputs stay as they are: rotary angles would lose in bfloat16 what tells far positions apart.
    policy = MixedPrecisionPolicy(dtype, torch.float32, cast_forward_inputs=False)
    for blocks in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
        sharded = [fully_shard(block, mp_policy=policy) for block in blocks]
        for block, following in pairwise(sharded):
            block.set_modules_to_forward_prefetch([following])
            following.set_modules_to_backward_prefetch([block])
    # Without this the weights outside blocks would stay whole after a forward pass without a backward one.
    fully_shard(model, reshard_after_forward=True, mp_policy=policy)


@contextmanager
def no_sync(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Keep gradients of sharded modules in the process for a while."""
    sharded = [module for module in modules if isinstance(module, FSDPModule)]
    for module in sharded:
        module.set_requires_gradient_sync(False)
    try:
        yield
    finally:
        for module in sharded:
            module.set_requires_gradient_sync(True)


@contextmanager
def outside_blocks_whole(model: nn.Module) -> Iterator[None]:
    """Gather the weights outside blocks for a while: for methods of the model other than its forward pass."""
    assert isinstance(model, FSDPModule)
    model.unshard()
    try:
        yield
    finally:
        model.reshard()


@torch.no_grad()
def put(target: Tensor, values: Tensor) -> None:
    """Copy all of a tensor into `target`, of which this process may hold a share."""
    if not isinstance(target, DTensor):
        target.copy_(values)
        return
    local = target.to_local()
    rows = -(-target.shape[0] // target.device_mesh.size())
    first = rows * target.device_mesh.get_local_rank()
    local.copy_(values[first : first + local.shape[0]])
