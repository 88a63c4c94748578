"""How Hugging Face writes down BERT: its settings and the names of its weights, and ours."""

from __future__ import annotations

from collections.abc import Mapping

from bertwright.hub.mappings.mapping import HFMapping
from bertwright.model.config import BertConfig
from bertwright.model.encoder import HeadType

ONE_DROPOUT: Mapping[HeadType, str] = dict.fromkeys(("row", "choice", "token", "span"), "classifier_dropout")
"""The setting of the dropout before a head, where it has the same name for all."""


def encoder_modules(prefix: str) -> dict[str, tuple[str, ...]]:
    """Return the modules of BERT outside its blocks and heads, by their names under a prefix, and ours."""
    return {
        f"{prefix}embeddings.word_embeddings": ("embeddings.words",),
        f"{prefix}embeddings.position_embeddings": ("embeddings.positions",),
        f"{prefix}embeddings.token_type_embeddings": ("embeddings.types",),
        f"{prefix}embeddings.LayerNorm": ("embeddings.norm",),
    }


BERT = HFMapping(
    what="A BERT encoder (Devlin et al. 2018)",
    model_type="bert",
    written_as="BertForPreTraining",
    bare="BertModel",
    fine_tuned_as={
        "row": "BertForSequenceClassification",
        "choice": "BertForMultipleChoice",
        "token": "BertForTokenClassification",
        "span": "BertForQuestionAnswering",
    },
    head_called={"row": "classifier", "choice": "classifier", "token": "classifier", "span": "qa_outputs"},
    pooled_as={},
    head_dropout=ONE_DROPOUT,
    config=BertConfig,
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "type_vocab_size",
        "hidden_act": "hidden_act",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "layer_norm_eps",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
        "tie_word_embeddings": "tie_word_embeddings",
    },
    absent={},
    must_be={
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    heads=("pooler.", "mlm_head.", "nsp_head."),
    left_out=(),
    prefix="bert.",
    backbone=("embeddings.", "encoder.", "pooler."),
    modules={
        **encoder_modules("bert."),
        "bert.pooler.dense": ("pooler.dense",),
        "cls.predictions.transform.dense": ("mlm_head.dense",),
        "cls.predictions.transform.LayerNorm": ("mlm_head.norm",),
        "cls.predictions": ("mlm_head",),
        "cls.predictions.decoder": ("mlm_head",),  # read, not written: some folders hold its bias twice
        "cls.seq_relationship": ("nsp_head.dense",),
    },
    blocks="bert.encoder.layer",
    in_block={
        "attention.self.query": ("attention.query",),
        "attention.self.key": ("attention.key",),
        "attention.self.value": ("attention.value",),
        "attention.output.dense": ("attention.output",),
        "attention.output.LayerNorm": ("attention_norm",),
        "intermediate.dense": ("inner",),
        "output.dense": ("outer",),
        "output.LayerNorm": ("norm",),
    },
    decoder="cls.predictions.decoder.weight",
    inputs=("input_ids", "token_type_ids", "attention_mask"),
    read_extra=lambda _: {},
    write_extra=lambda *_: {"use_cache": True},
)
