"""Turns gradients into steps by Adam's moments (Kingma and Ba, 2015): AdamW, LAMB and StableAdamW.

AdamW is torch's; the other two go other lengths in the direction that the moments give.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.train.optim.config import OptimizerConfig, decay_groups, trained


class AdamMoments(torch.optim.Optimizer):
    """Keeps Adam's moments; how far to go in their direction is for each optimizer to say in `update`.

    Nothing of it is read by the host: the count of steps of a parameter, too, lies beside it.
    """

    found_inf: Tensor | None = None
    """A scalar on the device, as torch's own optimizers have it: where it is 1, a step changes nothing."""

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
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self.update(parameters, group)

    @abstractmethod
    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move parameters of a group, all of which have a gradient."""

    def directions(self, parameters: list[Tensor], group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
        """Move Adam's moments along; return m / (sqrt(v) + eps) and v of each parameter, both moments bias-corrected.

        Keeps "step", "exp_avg" and "exp_avg_sq" in the optimizer's state, as torch's AdamW does. A parameter counts its
        own steps: one that was frozen at first has made fewer than others of its group.
        """
        beta1, beta2 = group["betas"]
        states = [self._state_of(parameter) for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(means, chosen(gradients, means, self.found_inf), 1 - beta1)
        gradients = chosen(gradients, 0.0, self.found_inf)
        torch._foreach_mul_(squares, beta2 if self.found_inf is None else torch.where(self.found_inf > 0, 1.0, beta2))
        torch._foreach_addcmul_(squares, gradients, gradients, value=1 - beta2)
        counts = self._counted([state["step"] for state in states])
        seconds = list(torch._foreach_div(squares, list((1 - beta2**counts).unbind())))
        roots = torch._foreach_sqrt(seconds)
        torch._foreach_add_(roots, group["eps"])
        ratios = list(torch._foreach_div(means, list((1 - beta1**counts).unbind())))
        torch._foreach_div_(ratios, roots)
        return chosen(ratios, 0.0, self.found_inf), seconds

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state

    def _counted(self, steps: list[Tensor]) -> Tensor:
        """Count a step of each parameter; return their numbers [N], from 1, in float64: so precise 1 - beta must be."""
        torch._foreach_add_(steps, 1)
        if self.found_inf is not None:
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))
        return torch.stack(steps).double()


def chosen(values: Sequence[Tensor], others: Sequence[Tensor] | float, found_inf: Tensor | None) -> list[Tensor]:
    """Return `values`, but `others` where `found_inf` says that a step is to change nothing; no host reads it."""
    if found_inf is None:
        return list(values)
    skipped = found_inf > 0
    if isinstance(others, float):
        return [torch.where(skipped, others, value) for value in values]
    return [torch.where(skipped, other, value) for other, value in zip(others, values, strict=True)]


class Lamb(AdamMoments):
    """A step for each matrix as long as the matrix, for very large batches (You et al., 2020; arXiv:1904.00962).

    Algorithm 2, with bias correction: a parameter moves by lr * ||p|| / ||r|| * r with r = m / (sqrt(v) + eps) + decay
    * p. Vectors (biases, LayerNorms) move by lr * r, as in the reference implementation, which leaves them out of decay
    and of the ratio.
    """

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move parameters of a group."""
        directions, _ = self.directions(parameters, group)
        if group["weight_decay"]:
            torch._foreach_add_(directions, parameters, alpha=group["weight_decay"])
            directions = chosen(directions, 0.0, self.found_inf)
        lengths, steps = torch._foreach_norm(parameters), torch._foreach_norm(directions)
        for parameter, direction, length, step in zip(parameters, directions, lengths, steps, strict=True):
            if parameter.ndim > 1:
                # Of a matrix of zeros, or one whose direction is zero, the ratio says nothing.
                ratio = torch.where((length > 0) & (step > 0), length / step, 1.0)
                parameter.addcmul_(direction, ratio, value=-group["lr"])
            else:
                parameter.add_(direction, alpha=-group["lr"])


class StableAdamW(AdamMoments):
    """AdamW that slows a parameter down while its second moment lags behind its gradient.

    The rate of each parameter is divided by max(1, RMS of gradient / sqrt(second moment)) (Wortsman et al., 2023,
    "Stable and low-precision training for large-scale vision-language models", algorithm 2): the update clipping of
    AdaFactor, which can take the place of clipping the norm of the gradient (clip_norm = 0).
    """

    def update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Move parameters of a group."""
        directions, seconds = self.directions(parameters, group)
        floor = group["eps"] ** 2
        for parameter, direction, second in zip(parameters, directions, seconds, strict=True):
            assert parameter.grad is not None
            lag = (parameter.grad.square() / second.clamp_(min=floor)).mean().sqrt()
            (rate,) = chosen([group["lr"] / lag.clamp(min=1.0)], 0.0, self.found_inf)
            parameter.mul_(1 - rate * group["weight_decay"])
            parameter.addcmul_(direction, rate, value=-1.0)


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
