"""How Hugging Face writes down ELECTRA: BERT's names, a projection of narrow embeddings, and one of two heads.

A generator is written as ElectraForMaskedLM, a discriminator as ElectraForPreTraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertwright.hub.mappings.bert_names import BERT, encoder_modules
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.hub.mappings.roberta_names import classes
from bertwright.model.bert_family import ElectraConfig
from bertwright.model.config import ModelConfig
from bertwright.tokenizer.load import SpecialIds

DISCRIMINATOR_CLASS = "ElectraForPreTraining"


def read_extra(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether the folder says that it holds a discriminator."""
    return {"discriminator": values.get("architectures") == [DISCRIMINATOR_CLASS]}


def write_extra(config: ModelConfig, _: SpecialIds) -> dict[str, Any]:
    """Return the width of the embeddings, which transformers would take for 128 where it is not named."""
    return {"embedding_size": config.embedding_width, "summary_last_dropout": 0.1, "use_cache": True}


ELECTRA: HFMapping = replace(
    BERT,
    **classes("Electra"),
    what="An ELECTRA encoder (Clark et al. 2020)",
    model_type="electra",
    head_called={**BERT.head_called, "row": "classifier.out_proj"},
    pooled_as={"row": "classifier.dense", "choice": "sequence_summary.summary"},
    config=ElectraConfig,
    fields={**BERT.fields, "embedding_size": "embedding_size"},
    absent={"embedding_size": 128},
    must_be={
        **BERT.must_be,
        "summary_type": "first",
        "summary_use_proj": True,
        "summary_activation": "gelu",
    },
    heads=("pooler.", "mlm_head.", "rtd_head."),
    left_out=("pooler.",),
    prefix="electra.",
    backbone=("embeddings.", "embeddings_project.", "encoder."),
    modules={
        **encoder_modules("electra."),
        "electra.embeddings_project": ("embeddings.project",),
        "generator_predictions.dense": ("mlm_head.dense",),
        "generator_predictions.LayerNorm": ("mlm_head.norm",),
        "generator_lm_head": ("mlm_head",),
        "discriminator_predictions.dense": ("rtd_head.dense",),
        "discriminator_predictions.dense_prediction": ("rtd_head.classifier",),
    },
    blocks="electra.encoder.layer",
    decoder="generator_lm_head.weight",
    read_extra=read_extra,
    write_extra=write_extra,
)
DISCRIMINATOR = replace(
    ELECTRA, written_as=DISCRIMINATOR_CLASS, left_out=(*ELECTRA.left_out, "mlm_head.", "output_words.")
)
"""How the class that finds replaced tokens is written, which has no masked-token head."""
