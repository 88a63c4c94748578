"""Names every architecture whose Hugging Face folders are read and written, and finds that of a config.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bertwright.errors import ModelError
from bertwright.hub.mappings.bert_names import BERT
from bertwright.hub.mappings.deberta_names import DEBERTA, LEGACY_DEBERTA
from bertwright.hub.mappings.distilbert_names import DISTILBERT
from bertwright.hub.mappings.electra_names import DISCRIMINATOR, ELECTRA
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.modernbert_names import MODERN
from bertwright.hub.mappings.roberta_names import CAMEMBERT, ROBERTA, XLM_ROBERTA
from bertwright.model.bert_family import ElectraConfig
from bertwright.model.config import ModelConfig
from bertwright.model.deberta import DebertaConfig

MAPPINGS: dict[str, HFMapping] = {
    "bert": BERT,
    "modernbert": MODERN,
    "roberta": ROBERTA,
    "xlm-roberta": XLM_ROBERTA,
    "camembert": CAMEMBERT,
    "electra": ELECTRA,
    "distilbert": DISTILBERT,
    "deberta-v2": DEBERTA,
}
"""How the folders of each architecture are written, by the model_type of config.json."""

OF_OLD_BERT = frozenset(
    ("attention_probs_dropout_prob", "hidden_act", "intermediate_size", "num_attention_heads", "type_vocab_size")
)
"""Settings that every config.json of BERT has; RoBERTa's have them too, with a type_vocab_size of 1."""
CLASS = r"([A-Za-z0-9]+?)(For[A-Z][A-Za-z]+|Model|LMHeadModel)"
"""A class of transformers: the architecture, then what it is for."""


def mapping_of(config: ModelConfig | type[ModelConfig]) -> HFMapping:
    """Return how Hugging Face writes down the architecture of settings; raises ModelError where nothing says."""
    if isinstance(config, ElectraConfig) and config.discriminator:
        return DISCRIMINATOR
    if isinstance(config, DebertaConfig) and config.legacy:
        return LEGACY_DEBERTA
    kind = config if isinstance(config, type) else type(config)
    found = next((mapping for mapping in MAPPINGS.values() if mapping.config is kind), None)
    if found is None:
        raise ModelError(
            f"nothing says how Hugging Face writes down a model of {kind.__name__}; add it to MAPPINGS in "
            "hub/mappings/known.py"
        )
    return found


def model_type_of(values: Mapping[str, Any]) -> str | None:
    """Return the model_type of a config.json; where it has none, as before 2020, what its settings are those of.

    >>> model_type_of({"architectures": ["BertForMaskedLM"], "hidden_size": 768})
    'bert'
    """
    kind, named = values.get("model_type"), values.get("architectures")
    if kind is not None:
        return kind if isinstance(kind, str) else str(kind)[:100]
    for name in named if isinstance(named, list) else []:
        if isinstance(name, str) and (found := re.fullmatch(CLASS, name)):
            name = found[1].lower()
            return next((known for known in MAPPINGS if known.replace("-", "") == name), name)
    looks_like_bert = set(values) >= OF_OLD_BERT and "embedding_size" not in values and values["type_vocab_size"] == 2
    return "bert" if looks_like_bert else None
