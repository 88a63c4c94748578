"""How Hugging Face writes down DistilBERT: settings and weights of BERT under names of their own."""

from __future__ import annotations

from dataclasses import replace

from bertwright.hub.mappings.bert_names import BERT, encoder_modules
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.roberta_names import classes
from bertwright.model.bert_family import DistilBertConfig

DISTILBERT: HFMapping = replace(
    BERT,
    **classes("DistilBert"),
    what="A DistilBERT encoder (Sanh et al. 2019)",
    model_type="distilbert",
    pooled_as={"row": "pre_classifier", "choice": "pre_classifier"},
    head_dropout={
        "row": "seq_classif_dropout",
        "choice": "seq_classif_dropout",
        "token": "classifier_dropout",
        "span": "qa_dropout",
    },
    config=DistilBertConfig,
    fields={
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "n_layers": "layers",
        "n_heads": "heads",
        "hidden_dim": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "activation": "hidden_act",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "tie_word_embeddings": "tie_word_embeddings",
    },
    absent={},
    must_be={},
    heads=("pooler.", "mlm_head."),
    left_out=("pooler.",),
    prefix="distilbert.",
    backbone=("embeddings.", "transformer."),
    modules={
        **{name: local for name, local in encoder_modules("distilbert.").items() if local != ("embeddings.types",)},
        "vocab_transform": ("mlm_head.dense",),
        "vocab_layer_norm": ("mlm_head.norm",),
        "vocab_projector": ("mlm_head",),
    },
    blocks="distilbert.transformer.layer",
    in_block={
        "attention.q_lin": ("attention.query",),
        "attention.k_lin": ("attention.key",),
        "attention.v_lin": ("attention.value",),
        "attention.out_lin": ("attention.output",),
        "sa_layer_norm": ("attention_norm",),
        "ffn.lin1": ("inner",),
        "ffn.lin2": ("outer",),
        "output_layer_norm": ("norm",),
    },
    decoder="vocab_projector.weight",
    inputs=("input_ids", "attention_mask"),
    write_extra=lambda *_: {},
)
