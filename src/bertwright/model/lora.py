"""Trains a few numbers beside each matrix instead of the matrix: low-rank adapters (LoRA, Hu et al., 2021).

A weight W [O, I] becomes W + alpha / rank x up [O, rank] down [rank, I]; W stays as it is and `up` starts at zero, so
that the model starts as it was. Merged, it is a weight like any other: what is exported knows nothing of adapters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from bertwright.model.task_model import FineTuned, depths

Matrix = Literal["query", "key", "value", "output", "inner"]
MATRICES: dict[Matrix, tuple[str, ...]] = {
    "query": ("attention.query",),
    "key": ("attention.key",),
    "value": ("attention.value",),
    "output": ("attention.output",),
    "inner": ("inner", "outer", "mlp.inner", "mlp.gate", "mlp.outer"),
}
"""The matrices of a block, by what `lora_matrices` calls them: those of attention, and all of the inner layer."""


class LowRank(nn.Module):
    """What is added to a frozen matrix of [O, I]."""

    def __init__(self, outputs: int, inputs: int, *, rank: int, alpha: float) -> None:
        """Draw `down` as torch draws linear layers, from its default generator; `up` is zero."""
        super().__init__()
        self.down, self.up = nn.Parameter(torch.empty(rank, inputs)), nn.Parameter(torch.zeros(outputs, rank))
        self.scale = alpha / rank
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the matrix that is computed with, [O, I]."""
        return weight + self.scale * (self.up @ self.down)


def adapt(model: FineTuned, matrices: Sequence[Matrix], *, rank: int, alpha: float) -> None:
    """Put adapters beside the named matrices of every block that is not frozen; of the encoder they alone are trained.

    What stands above the blocks is trained as before: pooler, final norm and head.
    """
    chosen = list(_adapted(model, matrices))
    deep, top = depths(model), model.encoder.config.layers + 1
    for name, parameter in model.named_parameters():
        if deep[name] < top:
            parameter.requires_grad_(False)
    for linear in chosen:
        low = LowRank(linear.out_features, linear.in_features, rank=rank, alpha=alpha)
        parametrize.register_parametrization(linear, "weight", low)


def _adapted(model: FineTuned, matrices: Sequence[Matrix]) -> Iterator[nn.Linear]:
    wanted = {name for matrix in matrices for name in MATRICES[matrix]}
    for block in model.encoder.get_submodule("blocks").children():
        for name, module in block.named_modules():
            if name in wanted and isinstance(module, nn.Linear) and module.weight.requires_grad:
                yield module


def merge_adapters(model: nn.Module) -> None:
    """Make every adapted matrix a plain one again, of the same numbers that were computed with."""
    for module in list(model.modules()):
        if parametrize.is_parametrized(module, "weight"):
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
