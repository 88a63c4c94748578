"""Holds what the host knows of a batch that it has made: to ask a GPU for it would be to wait for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class RowLayout:
    """What is known of the rows of a batch where it is made, so that nobody has to ask a GPU for it.

    full       whether every row is one document, or a pair, without padding
    sequences  of packed rows, at least as many as there are runs of tokens of one document, or of the padding of a row;
               0 where nobody has counted
    """

    full: bool = False
    sequences: int = 0


UNKNOWN_ROWS = RowLayout()
"""Rows of which nothing is known beforehand."""


@dataclass(frozen=True)
class Places:
    """Which places of B rows of W a batch is about. The host knows them: to ask the device for them is to wait for it.

    flat    [R] int64  these places, row after row, counted over all B W
    counts  how many of them are in each row
    width   W
    """

    flat: Tensor
    counts: tuple[int, ...]
    width: int

    @classmethod
    def of(cls, here: Tensor) -> Self:
        """Return the places that a mask [B, W] bool in the host's memory marks."""
        return cls(here.flatten().nonzero().flatten(), tuple(here.sum(1).tolist()), here.shape[1])

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Self:
        """Return the same with `flat` on a device."""
        return replace(self, flat=self.flat.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Self:
        """Return the same with `flat` in pinned memory."""
        return replace(self, flat=self.flat.pin_memory())

    def __getitem__(self, rows: slice) -> Self:
        """Return the places of some of the rows, counted over these."""
        first, stop, _ = rows.indices(len(self.counts))
        begin, end = sum(self.counts[:first]), sum(self.counts[:stop])
        return replace(self, flat=self.flat[begin:end] - first * self.width, counts=self.counts[first:stop])
