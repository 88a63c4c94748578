"""Turns settings into a model: the architectures by name."""

from __future__ import annotations

from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig
from bertwright.model.encoder import Encoder
from bertwright.model.modern import ModernForMaskedLM


def build_encoder(config: ModelConfig) -> Encoder:
    """Return a freshly drawn model of the architecture that `config` describes, from torch's default generator."""
    if isinstance(config, BertConfig):
        return BertForPreTraining(config)
    if isinstance(config, ModernConfig):
        return ModernForMaskedLM(config)
    raise TypeError(f"no architecture has settings of type {type(config).__name__}")
