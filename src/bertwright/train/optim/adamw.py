"""AdamW (Loshchilov and Hutter, 2019), as torch has it, with decay on matrices alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from bertwright.train.optim.config import OptimizerConfig, decay_groups, trained


def build_adamw(model: nn.Module, config: OptimizerConfig, _: Any) -> list[torch.optim.Optimizer]:
    """Return AdamW over every trained parameter."""
    return [adamw(trained(model), config)]


def adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    """Return AdamW over `parameters`."""
    return torch.optim.AdamW(
        decay_groups(parameters, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
