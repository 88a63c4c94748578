"""LAMB: Adam whose step for each matrix is as long as the matrix, for very large batches (You et al., 2020)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.optim.adam import AdamMoments
from bertwright.train.optim.config import OptimizerConfig, decay_groups, trained


class Lamb(AdamMoments):
    """Layer-wise adaptive moments (arXiv:1904.00962, algorithm 2, with bias correction).

    A parameter moves by lr * ||p|| / ||r|| * r with r = m / (sqrt(v) + eps) + decay * p. Vectors (biases, LayerNorms)
    move by lr * r, as in the reference implementation, which leaves them out of decay and of the ratio.
    """

    def update(self, parameters: list[Tensor], group: dict[str, Any], *, count: int) -> None:
        """Move parameters of a group that make their step number `count`."""
        directions = self.directions(parameters, group, count=count)
        if group["weight_decay"]:
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        lengths = torch._foreach_norm(parameters)
        steps = torch._foreach_norm(directions)
        for parameter, direction, length, step in zip(parameters, directions, lengths, steps, strict=True):
            trusted = parameter.ndim > 1 and bool(length > 0) and bool(step > 0)
            parameter.add_(direction, alpha=-group["lr"] * (float(length / step) if trusted else 1.0))


def build_lamb(model: nn.Module, config: OptimizerConfig, _: Any) -> list[torch.optim.Optimizer]:
    """Return Lamb over every trained parameter."""
    groups = decay_groups(trained(model), config.weight_decay)
    return [Lamb(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)]
