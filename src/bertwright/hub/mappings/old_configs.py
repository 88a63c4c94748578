"""Turns a config.json into its model_type, also one from before 2020, which has none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

OF_OLD_BERT = frozenset(
    ("attention_probs_dropout_prob", "hidden_act", "intermediate_size", "num_attention_heads", "type_vocab_size")
)
"""Settings that every config.json of BERT has; RoBERTa's have them too, with a type_vocab_size of 1."""
CLASS = re.compile(r"([A-Za-z]+?)(?:For[A-Z][A-Za-z]+|Model|LMHeadModel)")
"""A class of transformers: the architecture, then what it is for."""


def model_type_of(values: Mapping[str, Any]) -> str | None:
    """Return the model_type of a config.json; where it has none, as before 2020, what its settings are those of.

    >>> model_type_of({"architectures": ["BertForMaskedLM"], "hidden_size": 768})
    'bert'
    """
    kind, named = values.get("model_type"), values.get("architectures")
    if kind is not None:
        return kind if isinstance(kind, str) else str(kind)[:100]
    for name in named if isinstance(named, list) else []:
        found = (
            re.fullmatch(r"([A-Za-z]+?)(For[A-Z][A-Za-z]+|Model|LMHeadModel)", name) if isinstance(name, str) else None
        )
        if found:
            return found[1].lower()
    looks_like_bert = set(values) >= OF_OLD_BERT and "embedding_size" not in values and values["type_vocab_size"] == 2
    return "bert" if looks_like_bert else None
