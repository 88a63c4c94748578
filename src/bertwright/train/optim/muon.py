"""Turns the gradients of hidden matrices into updates whose singular values are all near one (Jordan et al., 2024).

torch.optim.Muon does the same one matrix at a time, by five iterations of one polynomial. Here matrices of a shape go
through batched products together, and each iteration has another polynomial (Amsel et al., 2025, "The Polar
Express"): three bring singular values of 0.01 to 1 within three tenths of one, four those of 0.003 within a fifth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bertwright.errors import ConfigError
from bertwright.train.optim.adam import adam_over, chosen
from bertwright.train.optim.config import OptimizerConfig, trained

HIDDEN = {"blocks", "pooler", "mlm_head", "nsp_head"}
"""Modules whose matrices lie between hidden states: blocks, and the dense layers of pre-training heads."""
FEWEST_UNITS = 16
"""Rows and columns such a matrix has at least: the output layer of the next-sentence head has two."""
Polynomial = tuple[float, float, float]
"""The a, b, c of a x + b x^3 + c x^5."""


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised (Nesterov), with decoupled weight decay; for matrices alone.

    Each matrix gets the learning rate times sqrt(max(1, rows / columns)). `dtype` is what the products run in.
    """

    found_inf: Tensor | None = None
    """A scalar on the device, as torch's own optimizers have it: where it is 1, a step changes nothing."""

    def __init__(
        self,
        params: Iterable[Tensor],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        iterations: int,
        dtype: torch.dtype,
    ) -> None:
        """Take matrices; `iterations` is 1 to 5."""
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.polynomials = polar_polynomials(iterations)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; `closure` is not used."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for parameters in shapes.values():
                self._update(parameters, group)

    def keeps(self, parameter: Tensor) -> bool:
        """Say whether this process keeps the momentum of a matrix; in a run of one it keeps all."""
        return True

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        ahead = torch.stack(self._ahead(parameters, group["momentum"]))
        update = orthogonalised(ahead.to(self.dtype), self.polynomials).to(ahead.dtype)
        self._move(parameters, list(update), group, shape=parameters[0].shape)

    def _ahead(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Move the momentum of matrices along, and return what is to be orthogonalised of each (Nesterov)."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if "momentum_buffer" not in self.state[parameter]:
                self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
        buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
        gradients = chosen(gradients, buffers, self.found_inf)
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, buffers, momentum))

    def _move(
        self, parameters: list[Tensor], update: list[Tensor], group: dict[str, Any], *, shape: torch.Size
    ) -> None:
        """Move matrices, or rows of matrices, of `shape` by their update, at the rate and decay of their group."""
        rows, columns = shape
        kept = 1 - group["lr"] * group["weight_decay"]
        torch._foreach_mul_(parameters, kept if self.found_inf is None else torch.where(self.found_inf > 0, 1.0, kept))
        update = chosen(update, 0.0, self.found_inf)
        torch._foreach_add_(parameters, update, alpha=-group["lr"] * math.sqrt(max(1, rows / columns)))


def orthogonalised(matrices: Tensor, polynomials: tuple[Polynomial, ...]) -> Tensor:
    """Return [N, R, C] matrices with the singular vectors of `matrices` and singular values near one.

    Each iteration applies an odd polynomial to the singular values by matrix products alone. Long float32 matrices take
    the shorter way over their Gram matrix.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    values = matrices.mT if tall else matrices
    values = values / (matrices.float().norm(dim=(1, 2), keepdim=True) + 1e-7).to(matrices.dtype)
    if values.dtype == torch.float32 and values.shape[2] >= 2 * values.shape[1]:
        values = _over_gram(values, polynomials)
    else:
        for a, b, c in polynomials:
            gram = values @ values.mT
            values = torch.baddbmm(values, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), values, beta=a)
    return values.mT if tall else values


def _over_gram(values: Tensor, polynomials: tuple[Polynomial, ...]) -> Tensor:
    """Return what the iterations make of [N, R, C] float32 `values`, by products of R x R matrices but for two.

    All factors are polynomials of G = X X^T and commute: an iteration multiplies X by P = a + b G + c G^2, and turns G
    into P G P. At C = 4 R three iterations take 17 products of R^3 instead of 27. Products of half precision would lose
    the small singular values, which are squared in G.
    """
    gram = values @ values.mT
    factor: Tensor | None = None
    for index, (a, b, c) in enumerate(polynomials):
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        polynomial.diagonal(dim1=1, dim2=2).add_(a)
        factor = polynomial if factor is None else polynomial @ factor
        if index + 1 < len(polynomials):
            gram = polynomial @ gram @ polynomial
    assert factor is not None
    return factor @ values


@lru_cache
def polar_polynomials(iterations: int, *, margin: float = 1.01) -> tuple[Polynomial, ...]:
    """Return the polynomials that in so many iterations bring singular values up to 1 closest to one.

    Values down to 10^(-(iterations + 1) / 2) are aimed at: fewer iterations give up more of the small ones. After each
    iteration the values lie in [p(low), 2 - p(low)], and the next polynomial is the best for that range. Beyond it a
    polynomial grows fast, so each is applied to the values divided by `margin`: rounding must not carry them there.
    """
    low, high = 10 ** (-(iterations + 1) / 2), 1.0
    chosen: list[Polynomial] = []
    for _ in range(iterations):
        a, b, c = _best_polynomial(low, high)
        chosen.append((a / margin, b / margin**3, c / margin**5))
        low = a * low + b * low**3 + c * low**5
        high = 2 - low
    return tuple(chosen)


def _best_polynomial(low: float, high: float) -> Polynomial:
    """Return the odd quintic whose largest distance from one over [low, high] is smallest, by Remez exchange.

    The best one errs by the same amount, with alternating signs, at both ends and at its two extrema between.
    """
    first, second = (3 * low + high) / 4, (low + 3 * high) / 4
    error, before = 1.0, 2.0
    while abs(error - before) > 1e-12:
        at = np.array([low, first, second, high])
        system = np.stack([at, at**3, at**5, [1, -1, 1, -1]], axis=1)
        before = error
        a, b, c, error = (float(value) for value in np.linalg.solve(system, np.ones(4)))
        spread = math.sqrt(9 * b * b - 20 * a * c)
        first, second = (math.sqrt((-3 * b + sign * spread) / (10 * c)) for sign in (-1, 1))
    return a, b, c


MakeMuon = Callable[..., Muon]
"""Returns Muon over matrices; of several processes, one that does some of the work."""


def build_muon(model: nn.Module, config: OptimizerConfig, make: MakeMuon) -> list[torch.optim.Optimizer]:
    """Return both; `make` makes Muon. Raises ConfigError where every such matrix is frozen."""
    matrices = hidden_matrices(model)
    if not matrices:
        raise ConfigError("optimizer.name: muon trains matrices of blocks, and all of them are frozen; give adamw")
    taken = {id(matrix) for matrix in matrices}
    muon = make(
        matrices,
        lr=config.muon_learning_rate,
        momentum=config.muon_momentum,
        weight_decay=config.muon_weight_decay,
        iterations=config.muon_iterations,
    )
    return [muon, adam_over([p for p in trained(model) if id(p) not in taken], config)]


def hidden_matrices(model: nn.Module) -> list[Tensor]:
    """Return the trained weights Muon is meant for: those of nn.Linear that lie between hidden states (see HIDDEN).

    An output layer is none, however many classes it has: orthogonalising it would force all classes to equal size.
    """
    weights = [
        module.weight
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module.weight.requires_grad and HIDDEN & set(name.split("."))
    ]
    return [weight for weight in weights if min(weight.shape) >= FEWEST_UNITS]
