"""Turns a model into optimizers: one for everything, or Muon for the hidden matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn

from bertwright.errors import ConfigError
from bertwright.train.optim.adam import AdamW, Lamb, StableAdamW, build_adam
from bertwright.train.optim.config import OptimizerConfig
from bertwright.train.optim.muon import MakeMuon, Muon, build_muon

OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig, MakeMuon], list[torch.optim.Optimizer]]] = {
    "adamw": partial(build_adam, AdamW),
    "stable-adamw": partial(build_adam, StableAdamW),
    "lamb": partial(build_adam, Lamb),
    "muon": build_muon,
}
"""What makes each optimizer, by the name in `optimizer.name`."""


def build_optimizers(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    dtype: torch.dtype = torch.float32,
    rates: Mapping[str, float] | None = None,
    muon: MakeMuon = Muon,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together hold every trained parameter of `model` once; ConfigError on a wrong name.

    `dtype` is what Muon's products run in, float32 where it is float16, and `muon` makes it (for several processes see
    muon_distributed.py). `rates` are factors on the learning rate by name of parameter, 1 for those it does not name.
    Every group keeps its peaks: "peak_lr", "peak_decay", "final_decay".
    """
    if config.name not in OPTIMIZERS:
        raise ConfigError(f"optimizer.name: no optimizer is called {config.name!r}; known: {', '.join(OPTIMIZERS)}")
    if dtype == torch.float16:  # momenta lie below its smallest numbers
        dtype = torch.float32
    optimizers = OPTIMIZERS[config.name](model, config, partial(muon, dtype=dtype))
    for optimizer in optimizers:
        if rates:
            _split_by_rate(optimizer, {id(p): rates.get(name, 1.0) for name, p in model.named_parameters()})
        for group in optimizer.param_groups:
            final = config.final_muon_weight_decay if isinstance(optimizer, Muon) else config.final_weight_decay
            group["peak_lr"], group["peak_decay"] = group["lr"], group["weight_decay"]
            group["final_decay"] = group["peak_decay"] if final is None or not group.get("decays", True) else final
    return optimizers


def _split_by_rate(optimizer: torch.optim.Optimizer, rates: Mapping[int, float]) -> None:
    """Split the groups of an optimizer so that each has parameters of one factor, by id, and its rate times that."""
    whole, optimizer.param_groups = optimizer.param_groups, []
    for group in whole:
        for rate in sorted({rates[id(parameter)] for parameter in group["params"]}):
            chosen = [parameter for parameter in group["params"] if rates[id(parameter)] == rate]
            optimizer.param_groups.append({**group, "params": chosen, "lr": group["lr"] * rate})


def set_rates(optimizers: list[torch.optim.Optimizer], *, factor: float, progress: float) -> None:
    """Set every group to `factor` times its peak learning rate, and its weight decay to what belongs to `progress`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
            group["weight_decay"] = group["peak_decay"] + progress * (group["final_decay"] - group["peak_decay"])
