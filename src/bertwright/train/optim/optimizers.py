"""Turns a model into optimizers: one for everything, or Muon for the hidden matrices and AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from bertwright.config import Section
from bertwright.errors import ConfigError
from bertwright.train.optim.lamb import Lamb
from bertwright.train.optim.muon import Muon
from bertwright.train.optim.stable_adamw import StableAdamW

MakeMuon = Callable[..., Muon]
HIDDEN = {"blocks", "pooler", "mlm_head", "nsp_head"}
"""Modules whose matrices lie between hidden states: blocks, and the dense layers of pre-training heads."""
FEWEST_UNITS = 16
"""Rows and columns such a matrix has at least: the output layer of the next-sentence head has two."""


class OptimizerConfig(Section):
    """Which optimizer, and its settings; the defaults are those of Devlin et al. (2018) but for the learning rate."""

    name: str = "adamw"
    """adamw, stable-adamw, lamb (very large batches), or muon (Muon for hidden matrices, AdamW for embeddings, norms,
    biases and the small heads)."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak learning rate of the Adam family."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of Adam's first moment."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of Adam's second moment."""
    eps: float = Field(default=1e-6, gt=0)
    """Added to the root of Adam's second moment."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay; never on biases and LayerNorms."""
    final_weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay at the end of the run, reached linearly; the same throughout where not given."""
    muon_learning_rate: float = Field(default=0.02, gt=0)
    """Peak learning rate of Muon; each matrix gets it times sqrt(max(1, rows / columns))."""
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Momentum of Muon (Nesterov)."""
    muon_weight_decay: float = Field(default=0.01, ge=0)
    """Decoupled weight decay of Muon's matrices. Without much of it they grow, and a fine-tuning rate that suits other
    models hardly moves them: see results/README.md."""
    final_muon_weight_decay: float | None = Field(default=None, ge=0)
    """Weight decay of Muon's matrices at the end of the run, reached linearly; the same where not given."""
    muon_iterations: int = Field(default=5, ge=1, le=5)
    """Iterations of Muon's orthogonalisation: fewer are cheaper, and leave small singular values small."""
    clip_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the whole gradient; 0 clips nothing."""


def build_optimizers(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    dtype: torch.dtype = torch.float32,
    rates: Mapping[str, float] | None = None,
    muon: MakeMuon = Muon,
) -> list[torch.optim.Optimizer]:
    """Return the optimizers that together hold every trained parameter of `model` once; ConfigError on a wrong name.

    `dtype` is what Muon's products run in, and `muon` makes it (see `muon_shared` for several processes). `rates` are
    factors on the learning rate by name of parameter, 1 for those it does not name. Every group remembers its peaks:
    "peak_lr", "peak_decay", "final_decay".
    """
    if config.name not in OPTIMIZERS:
        raise ConfigError(f"optimizer.name: no optimizer is called {config.name!r}; known: {', '.join(OPTIMIZERS)}")
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


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of `model` that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def set_rates(optimizers: list[torch.optim.Optimizer], *, factor: float, progress: float) -> None:
    """Set every group to `factor` times its peak learning rate, and its weight decay to what belongs to `progress`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
            group["weight_decay"] = group["peak_decay"] + progress * (group["final_decay"] - group["peak_decay"])


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: decay on matrices, none on vectors (every bias and LayerNorm is a vector)."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "decays": True},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]


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


def _adamw(parameters: list[nn.Parameter], config: OptimizerConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        decay_groups(parameters, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


def _build_adamw(model: nn.Module, config: OptimizerConfig, _: MakeMuon) -> list[torch.optim.Optimizer]:
    return [_adamw(trained(model), config)]


def _build_stable_adamw(model: nn.Module, config: OptimizerConfig, _: MakeMuon) -> list[torch.optim.Optimizer]:
    groups = decay_groups(trained(model), config.weight_decay)
    return [StableAdamW(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)]


def _build_lamb(model: nn.Module, config: OptimizerConfig, _: MakeMuon) -> list[torch.optim.Optimizer]:
    groups = decay_groups(trained(model), config.weight_decay)
    return [Lamb(groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.eps)]


def _build_muon(model: nn.Module, config: OptimizerConfig, make: MakeMuon) -> list[torch.optim.Optimizer]:
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
    return [muon, _adamw([p for p in trained(model) if id(p) not in taken], config)]


OPTIMIZERS: dict[str, Callable[[nn.Module, OptimizerConfig, MakeMuon], list[torch.optim.Optimizer]]] = {
    "adamw": _build_adamw,
    "stable-adamw": _build_stable_adamw,
    "lamb": _build_lamb,
    "muon": _build_muon,
}
