"""How Hugging Face writes down ModernBERT: its settings and the names of its weights, and ours.

Its query, key and value stand in one matrix, and so do the two projections of the gated inner layer; ours are single
matrices, which is what Muon wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bertwright.errors import ModelError
from bertwright.hub.mappings.bert_names import ONE_DROPOUT
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.model.config import ModelConfig, ModernConfig
from bertwright.tokenizer.load import SpecialIds

FULL, SLIDING = "full_attention", "sliding_attention"
PUBLISHED_EVERY = 3
PUBLISHED_THETA = {FULL: 160_000.0, SLIDING: 10_000.0}


def read_extra(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return which blocks are global and the rotary bases; raises ModelError for patterns we have no setting for.

    Understands layer_types and rope_parameters, and the older global_attn_every_n_layers and *_rope_theta.
    """
    layers = values.get("num_hidden_layers")
    every = values.get("global_attn_every_n_layers") or PUBLISHED_EVERY
    kinds = values.get("layer_types")
    if kinds is not None and isinstance(layers, int):
        every = _pattern(kinds, layers)
    if values.get("embedding_dropout", 0.0) != values.get("mlp_dropout", 0.0):
        raise ModelError("embedding_dropout and mlp_dropout differ; only one rate for both is supported")
    rope = values.get("rope_parameters") or {}
    shaped = isinstance(rope, Mapping) and all(isinstance(angles, Mapping) for angles in rope.values() if angles)
    if not shaped or not set(rope) <= {FULL, SLIDING}:
        raise ModelError(f"rope_parameters should hold {FULL!r} and {SLIDING!r}, not {str(rope)[:200]}")
    thetas = {}
    for kind, old in ((FULL, "global_rope_theta"), (SLIDING, "local_rope_theta")):
        angles = rope.get(kind) or {}
        if angles.get("rope_type", "default") != "default":
            raise ModelError(f"rotary positions of type {angles['rope_type']!r} are not supported; only 'default' is")
        thetas[kind] = angles.get("rope_theta") or values.get(old) or PUBLISHED_THETA[kind]
    return {"global_every": every, "global_theta": thetas[FULL], "local_theta": thetas[SLIDING]}


def write_extra(config: ModelConfig, special: SpecialIds) -> dict[str, Any]:
    """Return the layer types, rotary bases and special tokens as config.json holds them."""
    assert isinstance(config, ModernConfig)
    return {
        "layer_types": [FULL if config.is_global(block) else SLIDING for block in range(config.layers)],
        "rope_parameters": {
            FULL: {"rope_type": "default", "rope_theta": config.global_theta},
            SLIDING: {"rope_type": "default", "rope_theta": config.local_theta},
        },
        "embedding_dropout": config.dropout,
        "initializer_cutoff_factor": 2.0,
        "cls_token_id": special.cls,
        "sep_token_id": special.sep,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
    }


def _pattern(kinds: list[str], layers: int) -> int:
    """Return every which block is global; raises ModelError where `kinds` has no such pattern."""
    if isinstance(kinds, list) and len(kinds) == layers:
        full = [block for block, kind in enumerate(kinds) if kind == FULL]
        every = full[1] if len(full) > 1 else layers
        if kinds == [SLIDING if block % every else FULL for block in range(layers)]:
            return every
    raise ModelError(
        f"layer_types {str(kinds)[:200]} is not one global block in every so many; only that pattern is supported"
    )


MODERN = HFMapping(
    what="A ModernBERT encoder (Warner et al. 2024)",
    model_type="modernbert",
    written_as="ModernBertForMaskedLM",
    bare="ModernBertModel",
    fine_tuned_as={
        "row": "ModernBertForSequenceClassification",
        "choice": "ModernBertForMultipleChoice",
        "token": "ModernBertForTokenClassification",
        "span": "ModernBertForQuestionAnswering",
    },
    head_called=dict.fromkeys(("row", "choice", "token", "span"), "classifier"),
    pooled_as={},
    head_dropout=ONE_DROPOUT,
    config=ModernConfig,
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "local_attention": "local_window",
        "mlp_dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "norm_eps": "layer_norm_eps",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "tie_word_embeddings": "tie_word_embeddings",
        "classifier_pooling": "pooling",
    },
    absent={"max_position_embeddings": 8192},
    must_be={
        "hidden_activation": "gelu",
        "classifier_activation": "gelu",
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
    },
    heads=("mlm_head.",),
    left_out=("nsp_head.",),
    prefix="model.",
    backbone=("embeddings.", "layers.", "final_norm."),
    modules={
        "model.embeddings.tok_embeddings": ("embeddings.words",),
        "model.embeddings.norm": ("embeddings.norm",),
        "model.final_norm": ("norm",),
        "head.dense": ("mlm_head.dense",),
        "head.norm": ("mlm_head.norm",),
        "decoder": ("mlm_head",),
    },
    blocks="model.layers",
    in_block={
        "attn_norm": ("attention_norm",),
        "attn.Wqkv": ("attention.query", "attention.key", "attention.value"),
        "attn.Wo": ("attention.output",),
        "mlp_norm": ("mlp_norm",),
        "mlp.Wi": ("mlp.inner", "mlp.gate"),
        "mlp.Wo": ("mlp.outer",),
    },
    decoder="decoder.weight",
    inputs=("input_ids", "attention_mask"),
    read_extra=read_extra,
    write_extra=write_extra,
)
