"""What the optimizers with Adam's moments share: the moments, and the direction they give (Kingma and Ba, 2015)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class AdamMoments(torch.optim.Optimizer):
    """Keeps Adam's moments; how far to go in their direction is for each optimizer to say in `update`."""

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
            by_count: dict[int, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_count.setdefault(self._count(parameter), []).append(parameter)
            for count, parameters in by_count.items():
                self.update(parameters, group, count=count)

    @abstractmethod
    def update(self, parameters: list[Tensor], group: dict[str, Any], *, count: int) -> None:
        """Move parameters of a group, all of which have a gradient and make their step number `count`, from 1.

        Parameters that were frozen at first have made fewer steps than others of their group.
        """

    def directions(self, parameters: list[Tensor], group: dict[str, Any], *, count: int) -> list[Tensor]:
        """Move Adam's moments along and return m / (sqrt(v) + eps) of each parameter, both moments bias-corrected.

        Keeps "step", "exp_avg" and "exp_avg_sq" in the optimizer's state, as torch's AdamW does.
        """
        beta1, beta2 = group["betas"]
        states = [self.state[parameter] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(means, gradients, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1 - beta2**count))
        torch._foreach_add_(roots, group["eps"])
        return list(torch._foreach_div(torch._foreach_div(means, 1 - beta1**count), roots))

    def _count(self, parameter: Tensor) -> int:
        """Count a step of a parameter, whose moments begin with its first one; return its number, from 1."""
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        elif state["step"].is_cuda:  # as a checkpoint leaves it: each look at it would wait for the GPU
            state["step"] = state["step"].cpu()
        state["step"] += 1
        return int(state["step"])
