"""Says in one place what runs on a GPU: there torch's own layers are the fast ones, on a CPU those of this package."""

from __future__ import annotations

from torch import Tensor


def on_gpu(values: Tensor) -> bool:
    """Return whether a tensor lies on a GPU."""
    return values.is_cuda
