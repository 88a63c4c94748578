"""StableAdamW: AdamW that slows a parameter down while its second moment lags behind its gradient.

Wortsman et al. (2023), "Stable and low-precision training for large-scale vision-language models", algorithm 2: the
update clipping of AdaFactor, which can take the place of clipping the norm of the gradient (clip_norm = 0).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.optim.adam import AdamMoments
from bertwright.train.optim.config import OptimizerConfig, decay_groups, trained


class StableAdamW(AdamMoments):
    """AdamW with the learning rate of each parameter divided by max(1, RMS of gradient / sqrt(second moment))."""

    def update(self, parameters: list[Tensor], group: dict[str, Any], *, count: int) -> None:
        """Move parameters of a group that make their step number `count`."""
        directions = self.directions(parameters, group, count=count)
        floor = group["eps"] ** 2
        for parameter, direction in zip(parameters, directions, strict=True):
            assert parameter.grad is not None
            second = (self.state[parameter]["exp_avg_sq"] / (1 - group["betas"][1] ** count)).clamp_(min=floor)
            lag = float((parameter.grad.square() / second).mean().sqrt())
            rate = group["lr"] / max(1.0, lag)
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(direction, alpha=-rate)


def build_stable_adamw(model: nn.Module, config: OptimizerConfig, _: Any) -> list[torch.optim.Optimizer]:
    """Return StableAdamW over every trained parameter."""
    groups = decay_groups(trained(model), config.weight_decay)
    return [StableAdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)]
