"""How Hugging Face writes down DeBERTa-v2 and -v3: BERT's names, attention over distances, one of two masked heads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertwright.errors import ModelError
from bertwright.hub.mappings.bert_names import BERT
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.roberta_names import classes
from bertwright.model.config import ModelConfig
from bertwright.model.deberta import DebertaConfig
from bertwright.tokenizer.load import SpecialIds

BOTH_WAYS = ["p2c", "c2p"]


def read_extra(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return nothing; raises ModelError where attention reads distances in other ways, or widths differ."""
    kinds = values.get("pos_att_type") or []
    named = kinds.lower().split("|") if isinstance(kinds, str) else kinds
    if not isinstance(named, list) or sorted(str(kind).strip() for kind in named) != sorted(BOTH_WAYS):
        raise ModelError(f"pos_att_type {str(kinds)[:100]!r} is not supported; only 'p2c|c2p' is")
    width, heads = values.get("hidden_size"), values.get("num_attention_heads")
    for name in ("embedding_size", "pooler_hidden_size"):
        if values.get(name, width) != width:
            raise ModelError(f"{name} {values[name]!r} is not supported; only that of hidden_size, {width}, is")
    of_head = values.get("attention_head_size")
    if of_head is not None and isinstance(heads, int) and of_head * heads != width:
        raise ModelError(f"attention_head_size {of_head!r} is not supported; only hidden_size / num_attention_heads is")
    return {}


def write_extra(config: ModelConfig, _: SpecialIds) -> dict[str, Any]:
    """Return how attention reads distances."""
    return {"pos_att_type": BOTH_WAYS, "pooler_hidden_size": config.hidden_size}


HEAD_NAMES = {
    "lm_predictions.lm_head.dense": ("mlm_head.dense",),
    "lm_predictions.lm_head.LayerNorm": ("mlm_head.norm",),
    "lm_predictions.lm_head": ("mlm_head",),
}
LEGACY_NAMES = {name: local for name, local in BERT.modules.items() if name.startswith("cls.predictions")}
ENCODER_NAMES = {
    "deberta.embeddings.word_embeddings": ("embeddings.words",),
    "deberta.embeddings.LayerNorm": ("embeddings.norm",),
    "deberta.encoder.rel_embeddings": ("embeddings.distances",),
    "deberta.encoder.LayerNorm": ("embeddings.distance_norm",),
}
DEBERTA: HFMapping = replace(
    BERT,
    **classes("DebertaV2"),
    what="A DeBERTa encoder (He et al. 2021, 2023)",
    model_type="deberta-v2",
    pooled_as={"row": "pooler.dense", "choice": "pooler.dense"},
    head_dropout={
        "row": "cls_dropout",
        "choice": "cls_dropout",
        "token": "classifier_dropout",
        "span": "classifier_dropout",
    },
    config=DebertaConfig,
    fields={
        **BERT.fields,
        "position_buckets": "position_buckets",
        "max_relative_positions": "max_relative_positions",
        "legacy": "legacy",
    },
    absent={
        "layer_norm_eps": 1e-7,
        "legacy": True,
        "norm_rel_ebd": "none",
        "position_biased_input": True,
        "position_buckets": -1,
        "relative_attention": False,
        "share_att_key": False,
        "type_vocab_size": 0,
    },
    must_be={
        "conv_kernel_size": 0,
        "norm_rel_ebd": "layer_norm",
        "pooler_dropout": 0,
        "pooler_hidden_act": "gelu",
        "position_biased_input": False,
        "relative_attention": True,
        "share_att_key": True,
    },
    heads=("pooler.", "mlm_head."),
    left_out=("pooler.",),
    prefix="deberta.",
    backbone=("embeddings.", "encoder."),
    modules={**ENCODER_NAMES, **HEAD_NAMES},
    blocks="deberta.encoder.layer",
    in_block={
        **{name: local for name, local in BERT.in_block.items() if not name.startswith("attention.self.")},
        "attention.self.query_proj": ("attention.query",),
        "attention.self.key_proj": ("attention.key",),
        "attention.self.value_proj": ("attention.value",),
    },
    decoder="lm_predictions.lm_head.decoder.weight",
    inputs=("input_ids", "attention_mask"),
    read_extra=read_extra,
    write_extra=write_extra,
)
LEGACY_DEBERTA = replace(DEBERTA, modules={**ENCODER_NAMES, **LEGACY_NAMES}, decoder="cls.predictions.decoder.weight")
"""How the masked-token head is written where `legacy` is set: as BERT's."""
