"""A linear layer whose bias is cheap on a CPU: the same numbers as torch's, in the same parameters.

torch copies the bias over the whole output before each product, and its compiler sums the bias gradient down columns of
8,192 rows, a cache line at a time. Here the bias joins whatever element-wise pass comes next, and its gradient is
summed within each row of the batch, which stays in cache, and then over the rows. On a GPU torch adds the bias within
the product.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.layers.on_gpu import on_gpu


class Linear(nn.Linear):
    """`torch.nn.Linear`, on a CPU computed as a product and an addition."""

    def forward(self, input: Tensor) -> Tensor:
        """Return [..., out_features] from [..., in_features]."""
        return linear(input, self.weight, self.bias)


def linear(values: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return values [..., I] times the transpose of weight [O, I], plus bias [O] where there is one."""
    if bias is None or on_gpu(values):
        return functional.linear(values, weight, bias)
    products = functional.linear(values, weight)
    bias = bias.to(products.dtype)
    if products.ndim == 3:  # one bias a row, so that autograd sums in two stages
        bias = bias.expand(products.shape[0], 1, -1)
    return products + bias
