"""Turns the name of an activation, as config.json has it, into its function."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.model.config import Activation


def gelu_new(values: Tensor) -> Tensor:
    """Return GELU by its approximation with tanh (Hendrycks and Gimpel 2016, section 2)."""
    return functional.gelu(values, approximate="tanh")


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": functional.gelu,
    "gelu_new": gelu_new,
    "relu": functional.relu,
    "tanh": torch.tanh,
}
"""Every activation by its name at Hugging Face."""
