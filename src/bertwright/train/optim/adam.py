"""Turns gradients into steps by Adam's moments (Kingma and Ba, 2015): AdamW, LAMB and StableAdamW.

AdamW is torch's; the other two go other lengths in the direction that the moments give.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.optim.config import OptimizerConfig, decay_groups, trained


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


class Lamb(AdamMoments):
    """A step for each matrix as long as the matrix, for very large batches (You et al., 2020; arXiv:1904.00962).

    Algorithm 2, with bias correction: a parameter moves by lr * ||p|| / ||r|| * r with r = m / (sqrt(v) + eps) + decay
    * p. Vectors (biases, LayerNorms) move by lr * r, as in the reference implementation, which leaves them out of decay
    and of the ratio.
    """

    def update(self, parameters: list[Tensor], group: dict[str, Any], *, count: int) -> None:
        """Move parameters of a group that make their step number `count`."""
        directions = self.directions(parameters, group, count=count)
        if group["weight_decay"]:
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
        lengths = torch._foreach_norm(parameters)
        steps = torch._foreach_norm(directions)
        # Of a matrix of zeros, or one whose direction is zero, the ratio says nothing.
        for parameter, direction, length, step in zip(parameters, directions, lengths, steps, strict=True):
            trusted = parameter.ndim > 1 and bool(length > 0) and bool(step > 0)
            parameter.add_(direction, alpha=-group["lr"] * (float(length / step) if trusted else 1.0))


class StableAdamW(AdamMoments):
    """AdamW that slows a parameter down while its second moment lags behind its gradient.

    The rate of each parameter is divided by max(1, RMS of gradient / sqrt(second moment)) (Wortsman et al., 2023,
    "Stable and low-precision training for large-scale vision-language models", algorithm 2): the update clipping of
    AdaFactor, which can take the place of clipping the norm of the gradient (clip_norm = 0).
    """

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


AdamW = partial(torch.optim.AdamW, fused=True)


def adam_over(
    parameters: list[nn.Parameter], config: OptimizerConfig, kind: Callable[..., torch.optim.Optimizer] = AdamW
) -> torch.optim.Optimizer:
    """Return an optimizer of Adam's family over `parameters`, with decay on matrices alone."""
    groups = decay_groups(parameters, config.weight_decay)
    return kind(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)


def build_adam(
    kind: Callable[..., torch.optim.Optimizer], model: nn.Module, config: OptimizerConfig, _: Any
) -> list[torch.optim.Optimizer]:
    """Return an optimizer of Adam's family over every trained parameter."""
    return [adam_over(trained(model), config, kind)]
