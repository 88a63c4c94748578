"""LAMB: Adam whose step for each matrix is as long as the matrix, for very large batches (You et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments (arXiv:1904.00962, algorithm 2, with bias correction).

    A parameter moves by lr * ||p|| / ||r|| * r with r = m / (sqrt(v) + eps) + decay * p. Vectors (biases, LayerNorms)
    move by lr * r, as in the reference implementation, which leaves them out of decay and of the ratio.
    """

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
        if group["weight_decay"]:
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        lengths = torch._foreach_norm(parameters)
        steps = torch._foreach_norm(directions)
        for parameter, direction, length, step in zip(parameters, directions, lengths, steps, strict=True):
            trusted = parameter.ndim > 1 and bool(length > 0) and bool(step > 0)
            parameter.add_(direction, alpha=-group["lr"] * (float(length / step) if trusted else 1.0))


def adam_directions(optimizer: torch.optim.Optimizer, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
    """Move Adam's moments along and return m / (sqrt(v) + eps) of each parameter, both moments bias-corrected.

    Keeps "step", "exp_avg" and "exp_avg_sq" in the optimizer's state, as torch's AdamW does.
    """
    beta1, beta2 = group["betas"]
    states = [optimizer.state[parameter] for parameter in parameters]
    for parameter, state in zip(parameters, states, strict=True):
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] += 1
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
    torch._foreach_lerp_(means, gradients, 1 - beta1)
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
    count = float(states[0]["step"])
    roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2**count))
    torch._foreach_add_(roots, group["eps"])
    return list(torch._foreach_div(torch._foreach_div(means, 1 - beta1**count), roots))
