"""How Hugging Face writes down BERT: its settings and the names of its weights, and ours."""

from __future__ import annotations

import re

from bertwright.hub.mappings.mapping import HFMapping
from bertwright.model.config import BertConfig

PARTS: tuple[tuple[str, str], ...] = (
    ("bert.embeddings.word_embeddings", "embeddings.words"),
    ("bert.embeddings.position_embeddings", "embeddings.positions"),
    ("bert.embeddings.token_type_embeddings", "embeddings.types"),
    ("bert.embeddings.LayerNorm", "embeddings.norm"),
    ("bert.pooler.dense", "pooler.dense"),
    ("cls.predictions.transform.dense", "mlm_head.dense"),
    ("cls.predictions.transform.LayerNorm", "mlm_head.norm"),
    ("cls.predictions", "mlm_head"),
    ("cls.seq_relationship", "nsp_head.dense"),
)
"""(theirs, ours) for what stands once; the last piece of a name, weight or bias, is the same in both."""

BLOCK_PARTS: tuple[tuple[str, str], ...] = (
    ("attention.self.query", "attention.query"),
    ("attention.self.key", "attention.key"),
    ("attention.self.value", "attention.value"),
    ("attention.output.dense", "attention.output"),
    ("attention.output.LayerNorm", "attention_norm"),
    ("intermediate.dense", "inner"),
    ("output.dense", "outer"),
    ("output.LayerNorm", "norm"),
)
"""(theirs, ours) inside bert.encoder.layer.N and blocks.N."""

LOCAL_NAMES = dict(PARTS)
HF_NAMES = {ours: theirs for theirs, ours in PARTS}
OUR_BLOCK = dict(BLOCK_PARTS)
THEIR_BLOCK = {ours: theirs for theirs, ours in BLOCK_PARTS}

BACKBONE = ("embeddings.", "encoder.", "pooler.")
OLD_NORM = {"gamma": "weight", "beta": "bias"}


def to_ours(name: str) -> tuple[str, ...]:
    """Return our name of a Hugging Face weight, or none for one that pre-training has no place for.

    The prefix "bert." may be missing (BertModel saves without it), and LayerNorms may say gamma and beta (before 2019).

    >>> to_ours("bert.encoder.layer.3.output.dense.weight")
    ('blocks.3.outer.weight',)
    """
    if name.startswith(BACKBONE):
        name = f"bert.{name}"
    if name == "cls.predictions.decoder.bias":
        return ("mlm_head.bias",)
    part, _, leaf = name.rpartition(".")
    leaf = OLD_NORM.get(leaf, leaf)
    if block := re.fullmatch(r"bert\.encoder\.layer\.(\d+)\.(.+)", part):
        ours = OUR_BLOCK.get(block[2])
        return (f"blocks.{block[1]}.{ours}.{leaf}",) if ours else ()
    return (f"{LOCAL_NAMES[part]}.{leaf}",) if part in LOCAL_NAMES else ()


def to_theirs(name: str) -> str:
    """Return the name Hugging Face's BertForPreTraining gives one of our weights.

    >>> to_theirs("mlm_head.bias")
    'cls.predictions.bias'
    """
    part, _, leaf = name.rpartition(".")
    if block := re.fullmatch(r"blocks\.(\d+)\.(.+)", part):
        return f"bert.encoder.layer.{block[1]}.{THEIR_BLOCK[block[2]]}.{leaf}"
    return f"{HF_NAMES[part]}.{leaf}"


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
    config=BertConfig,
    fields={
        "vocab_size": "vocab_size",
        "hidden_size": "hidden_size",
        "num_hidden_layers": "layers",
        "num_attention_heads": "heads",
        "intermediate_size": "intermediate_size",
        "max_position_embeddings": "max_positions",
        "type_vocab_size": "type_vocab_size",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "layer_norm_eps",
        "initializer_range": "initializer_range",
        "pad_token_id": "pad_token_id",
    },
    absent={},
    must_be={
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    },
    heads=("pooler.", "mlm_head.", "nsp_head."),
    left_out=(),
    decoder="cls.predictions.decoder.weight",
    words="bert.embeddings.word_embeddings.weight",
    inputs=("input_ids", "token_type_ids", "attention_mask"),
    to_ours=to_ours,
    to_theirs=to_theirs,
    read_extra=lambda _: {},
    write_extra=lambda *_: {"use_cache": True},
)
