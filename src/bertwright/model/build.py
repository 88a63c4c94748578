"""Turns settings into a model: the architectures by name, and their named sizes."""

from __future__ import annotations

from typing import Any, overload

from bertwright.errors import ConfigError
from bertwright.model.bert import BertForPreTraining
from bertwright.model.bert_family import Camembert, DistilBert, Electra, Roberta, XlmRoberta
from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.deberta import Deberta
from bertwright.model.encoder import Encoder
from bertwright.model.modernbert import ModernForMaskedLM

ARCHITECTURES: dict[str, type[Encoder]] = {
    "bert": BertForPreTraining,
    "modern": ModernForMaskedLM,
    "roberta": Roberta,
    "xlm-roberta": XlmRoberta,
    "camembert": Camembert,
    "electra": Electra,
    "distilbert": DistilBert,
    "deberta": Deberta,
}
"""Every architecture, by the name in `model.architecture`; how its folders are written is in `hub/mappings`."""


def build_encoder(config: ModelConfig, *, drawn: bool = True) -> Encoder:
    """Return a freshly drawn model of the architecture that `config` describes, from torch's default generator.

    Not `drawn`, its weights are any: for those who load others. Drawing is half of the time of building a model.
    """
    return ARCHITECTURES[architecture_of(config)](config, drawn=drawn)


def architecture_of(config: ModelConfig) -> str:
    """Return the name of the architecture that `config` describes."""
    name = next((name for name, kind in ARCHITECTURES.items() if type(config) is kind.config_type), None)
    if name is None:
        raise TypeError(f"no architecture has settings of type {type(config).__name__}")
    return name


@overload
def named_size(name: str, *, vocab_size: int, architecture: str, **over: Any) -> ModelConfig: ...


@overload
def named_size(name: str, *, vocab_size: int, **over: Any) -> BertConfig: ...


def named_size(name: str, *, vocab_size: int, architecture: str = "bert", **over: Any) -> ModelConfig:
    """Return the settings of a named size of an architecture, with other fields replaced; raises ConfigError.

    >>> named_size("mini", vocab_size=8192).hidden_size
    256
    """
    if architecture not in ARCHITECTURES:
        raise ConfigError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    kind = ARCHITECTURES[architecture].config_type
    if name not in kind.sizes:
        raise ConfigError(f"unknown size {name!r}; the sizes are {', '.join(kind.sizes)}")
    layers, hidden_size, heads, intermediate_size = kind.sizes[name]
    fields = {
        "layers": layers,
        "hidden_size": hidden_size,
        "heads": heads,
        "intermediate_size": intermediate_size,
    }
    return kind(vocab_size=vocab_size, **(fields | over))
