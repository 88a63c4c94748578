"""Drops units at random, cheaply: the mask is a hash of the unit's index, computed in the pass that uses it.

torch's own dropout costs over a third of a training step on a CPU: the compiler draws one Philox number a unit, without
vector instructions, and its eager kernel writes the mask to memory. Here each call takes 64 bits from torch's default
generator and hashes (bits, index) in 32-bit integer arithmetic, which the compiler fuses into its neighbours as vector
instructions and repeats in the backward pass. A step thus stays a pure function of `torch.manual_seed`. On a GPU
torch's own dropout is as cheap, and is used.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.layers.on_gpu import on_gpu
from bertwright.rng import key_of


class Dropout(nn.Module):
    """While training, zeroes units with probability `rate` and scales the others: the mean stays (Srivastava 2014).

    Where it is given `rows` of a batch, these are the first dimension; where not, what it is given belongs to all rows.
    """

    def __init__(self, rate: float, *, rows: bool = True) -> None:
        super().__init__()
        self.rate, self.rows = rate, rows
        self.first_row: int | Tensor = 0

    def forward(self, values: Tensor) -> Tensor:
        """Return `values` (any shape) with units dropped; unchanged in evaluation mode or at a rate of zero."""
        if not self.training or self.rate == 0.0:
            return values
        if on_gpu(values):
            return functional.dropout(values, self.rate)
        kept = keep_mask(values.shape, self.rate, device=values.device, first_row=self.first_row)
        return torch.where(kept, values * (1.0 / (1.0 - self.rate)), 0.0)

    def extra_repr(self) -> str:
        """Return the rate, for printing the model."""
        return f"rate={self.rate}"


def begin_at_row(model: nn.Module, row: int) -> None:
    """Let every Dropout of `model` drop what it would in rows from `row` on of a batch of more rows.

    Processes that share a batch thus drop the units that one process would; of what belongs to all rows each part drops
    the same. Where `follow_rows` was called, compiled code takes the row as it comes; else it is part of it. On a GPU
    such parts drop other units than one process would, each its own.
    """
    if row and any(on_gpu(parameter) for parameter in model.parameters()):
        torch.cuda.manual_seed(key_of("rows", torch.initial_seed(), row))
    for module in model.modules():
        if isinstance(module, Dropout) and module.rows:
            if isinstance(module.first_row, Tensor):
                module.first_row.fill_(row)
            else:
                module.first_row = row


def follow_rows(model: nn.Module) -> None:
    """Let `begin_at_row` be called with other rows again and again, without code being compiled for each."""
    device = next(model.parameters()).device
    for module in model.modules():
        if isinstance(module, Dropout) and module.rows:
            module.first_row = torch.zeros((), dtype=torch.int32, device=device)


def keep_mask(shape: torch.Size, rate: float, *, device: torch.device, first_row: int | Tensor = 0) -> Tensor:
    """Return a boolean tensor of `shape`, each unit False with probability `rate`, independently.

    With `first_row` it is the mask of the rows from there on of a larger tensor.

    The hash is the two-round multiply and xor-shift of Wellons ("hash prospector", 2018), with a second seed word
    between the rounds: without it two masks whose first words lie close would be shifted copies of one another.
    The seed is drawn by `rand_like`: of the compiler's random operations it is among those that the backward pass reads
    back. `randint` it may compute again there, from other bits: then units are dropped forward and others backward.
    """
    drawn = torch.rand_like(torch.empty(2, dtype=torch.float64, device=device))
    seed = (drawn * 2.0**32 - 2.0**31).to(torch.int32)
    first, begin = 0, seed[0]
    if isinstance(first_row, Tensor):
        begin = seed[0] + first_row.to(device) * (shape.numel() // shape[0])  # modulo 2^32, as all here
    elif first_row:
        first = first_row * (shape.numel() // shape[0])
    bits = torch.arange(first, first + shape.numel(), dtype=torch.int32, device=device).view(shape) + begin
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D + seed[1]
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * (0x846CA68B - 2**32)
    return bits >= round(rate * 2**32) - 2**31
