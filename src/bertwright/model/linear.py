"""A linear layer whose bias is cheap on a CPU: the same numbers as torch's, in the same parameters.

torch copies the bias over the whole output before each product, and its compiler sums the bias gradient down columns a
cache line at a time, which costs as much as half the matrix products of a step of the mini size. Here the bias joins
whatever element-wise pass comes next, and its gradient is one more matrix product, with a row of ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """`torch.nn.Linear` with a bias, computed as a product and an addition."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [..., out_features] from [..., in_features]."""
        return linear(input, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return values [..., I] times the transpose of weight [O, I], plus bias [O]."""
    added: Tensor = _AddBias.apply(functional.linear(values, weight), bias)  # type: ignore[no-untyped-call]
    return added


class _AddBias(torch.autograd.Function):
    """Adds a vector to every row; the gradient of the vector is ones [1, T] @ gradient [T, O]."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, bias: Tensor) -> Tensor:
        ctx.dtypes = products.dtype, bias.dtype
        return products + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        products_dtype, bias_dtype = ctx.dtypes
        gradient = gradients[0].to(products_dtype)
        rows = gradient.reshape(-1, gradient.shape[-1])
        summed = rows.new_ones(1, rows.shape[0]) @ rows
        return gradient, summed[0].to(bias_dtype)
