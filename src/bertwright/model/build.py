"""Turns settings into a model: the architectures by name."""

from __future__ import annotations

from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import BertConfig, ModelConfig, ModernConfig
from bertwright.model.encoder import Encoder
from bertwright.model.modernbert import ModernForMaskedLM


def build_encoder(config: ModelConfig, *, drawn: bool = True) -> Encoder:
    """Return a freshly drawn model of the architecture that `config` describes, from torch's default generator.

    Not `drawn`, its weights are any: for those who load others. Drawing is half of the time of building a model.
    """
    if isinstance(config, BertConfig):
        return BertForPreTraining(config, drawn=drawn)
    if isinstance(config, ModernConfig):
        return ModernForMaskedLM(config, drawn=drawn)
    raise TypeError(f"no architecture has settings of type {type(config).__name__}")
