"""Holds what a run may set of its optimizer, and sorts weights into those that decay and those that do not."""

from __future__ import annotations

from typing import Any

from pydantic import Field
from torch import nn

from bertwright.config import Section


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


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of `model` that are not frozen."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def decay_groups(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    """Return AdamW's groups: decay on matrices, none on vectors (every bias and LayerNorm is a vector)."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay, "decays": True},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0, "decays": False},
    ]
    return [group for group in groups if group["params"]]
