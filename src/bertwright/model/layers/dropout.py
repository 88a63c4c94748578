"""Drops units at random, cheaply: the mask is a hash of the unit's index, computed in the pass that uses it.

torch's own dropout costs over a third of a training step on a CPU: the compiler draws one Philox number a unit, without
vector instructions, and its eager kernel writes the mask to memory. Here each call takes 64 bits from torch's default
generator and hashes (bits, index) in 32-bit integer arithmetic, which the compiler fuses into its neighbours as vector
instructions and repeats in the backward pass. Code that is not compiled does it in blocks that stay in the cache, and
drops the same units. A step thus stays a pure function of `torch.manual_seed`. On a GPU torch's own dropout is as
cheap, and is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.layers.on_gpu import on_gpu
from bertwright.rng import key_of

BLOCK = 2**17
"""Units of a block of code that is not compiled: its 32-bit hashes stay in the cache of a core."""
BITS_OF = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""The whole numbers as wide as a unit of so many bytes."""


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
        if not torch.compiler.is_compiling():
            dropped: Tensor = _InBlocks.apply(values, self.rate, self.first_row)  # type: ignore[no-untyped-call]
            return dropped
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
    """
    begin, seed = drawn(shape, device, first_row)
    places = torch.arange(shape.numel(), dtype=torch.int32, device=device).view(shape)
    return hashed(places + begin, seed) >= threshold(rate)


def drawn(shape: torch.Size, device: torch.device, first_row: int | Tensor) -> tuple[Tensor, Tensor]:
    """Return the two seed words of a mask: what is added to the places of its units, and what to their hashes.

    They are drawn by `rand_like`: of the compiler's random operations it is among those that the backward pass reads
    back. `randint` it may compute again there, from other bits: then units are dropped forward and others backward.
    """
    random = torch.rand_like(torch.empty(2, dtype=torch.float64, device=device))
    begin, seed = (random * 2.0**32 - 2.0**31).to(torch.int32)
    if isinstance(first_row, Tensor):
        first_row = first_row.to(device)
    return begin + first_row * shape[1:].numel(), seed  # modulo 2^32, as all here


def hashed(bits: Tensor, seed: Tensor) -> Tensor:
    """Return `bits` (32-bit whole numbers, which are overwritten) mixed until they are as if drawn at random.

    The hash is the two-round multiply and xor-shift of Wellons ("hash prospector", 2018), with a second seed word
    between the rounds: without it two masks whose first words lie close would be shifted copies of one another.
    """
    bits ^= (bits >> 16).bitwise_and_(0xFFFF)
    bits *= 0x7FEB352D
    bits += seed
    bits ^= (bits >> 15).bitwise_and_(0x1FFFF)
    bits *= 0x846CA68B - 2**32
    return bits


def threshold(rate: float) -> int:
    """Return the least hash of a unit that is kept, an even number."""
    return 2 * round(rate * 2**31) - 2**31


class _InBlocks(torch.autograd.Function):
    """Drops the units of `keep_mask` block by block.

    What is dropped is set to zero by its bits: choosing between two numbers at random takes a CPU ten times as long.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float, first_row: int | Tensor) -> Tensor:
        """Return `values` with units dropped."""
        begin, seed = drawn(values.shape, values.device, first_row)
        ctx.scale = 1.0 / (1.0 - rate)
        scaled: Tensor = values.contiguous() * ctx.scale
        kept = torch.empty(values.numel(), dtype=torch.int8, device=values.device)
        places = torch.arange(min(BLOCK, values.numel()), dtype=torch.int32, device=values.device)
        for first, units, of_block in blocks(scaled, kept):
            bits = hashed(places[: len(units)] + (begin + first), seed)
            bits >>= 1  # half of each, so that the difference fits, whose sign fills all bits of a unit that is kept
            torch.sub(threshold(rate) // 2 - 1, bits, out=bits)
            bits >>= 31
            of_block.copy_(bits)
            units &= bits.to(units.dtype)
        ctx.save_for_backward(kept)
        return scaled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the values."""
        (kept,) = ctx.saved_tensors
        scaled: Tensor = gradient.contiguous() * ctx.scale
        for _, units, of_block in blocks(scaled, kept):
            units &= of_block.to(units.dtype)
        return scaled, None, None


def blocks(values: Tensor, kept: Tensor) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield for each block the place of its first unit, the units of `values` as bits, and their part of `kept`."""
    units = values.view(-1).view(BITS_OF[values.element_size()])
    for first in range(0, len(units), BLOCK):
        yield first, units[first : first + BLOCK], kept[first : first + BLOCK]
