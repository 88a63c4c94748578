"""Copies what lies on the device to the memory of the host, and has nobody wait for it before it is needed.

A GPU works through a queue. To ask it for a number is to wait until the queue is empty, and then it waits for the next
order; so copies are orders too, into pinned memory, and who needs one waits for that order alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


def host_copy(tensor: Tensor) -> Tensor:
    """Return a copy in the host's memory; of a tensor on a GPU it is there when an `Arrival` marked later is.

    A tensor of which this process holds a share stays where it is: it can be written and put back as such alone.
    """
    if tensor.device.type == "cpu" or hasattr(tensor, "full_tensor"):
        return tensor.detach().clone()
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor.detach(), non_blocking=True)


@dataclass(frozen=True)
class Arrival:
    """When everything is done that a GPU was told to do before this was marked; on a CPU it is done."""

    event: torch.cuda.Event | None = None

    @classmethod
    def mark(cls, device: torch.device) -> Self:
        """Mark the end of the queue of a device as it is now."""
        if device.type != "cuda":
            return cls()
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(device))
        return cls(event)

    def wait(self) -> None:
        """Wait until it is done."""
        if self.event is not None:
            self.event.synchronize()
