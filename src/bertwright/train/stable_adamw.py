"""StableAdamW: AdamW that slows a parameter down while its second moment lags behind its gradient.

Wortsman et al. (2023), "Stable and low-precision training for large-scale vision-language models", algorithm 2: the
update clipping of AdaFactor, which can take the place of clipping the norm of the gradient (clip_norm = 0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from bertwright.train.lamb import adam_directions


class StableAdamW(torch.optim.Optimizer):
    """AdamW with the learning rate of each parameter divided by max(1, RMS of gradient / sqrt(second moment))."""

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        eps: float,
    ) -> None:
        """Take parameter groups, each with its weight_decay."""
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        directions = adam_directions(self, parameters, group)
        count = float(self.state[parameters[0]]["step"])
        floor = group["eps"] ** 2
        for parameter, direction in zip(parameters, directions, strict=True):
            assert parameter.grad is not None
            second = (self.state[parameter]["exp_avg_sq"] / (1 - group["betas"][1] ** count)).clamp_(min=floor)
            lag = float((parameter.grad.square() / second).mean().sqrt())
            rate = group["lr"] / max(1.0, lag)
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.add_(direction, alpha=-rate)
