"""How Hugging Face writes down RoBERTa, XLM-RoBERTa and CamemBERT: BERT's names under another prefix, other heads.

Positions are counted from after the padding token's id, so max_position_embeddings has that many rows more than a text
may have tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from bertwright.hub.mappings.bert_names import BERT, encoder_modules
from bertwright.hub.mappings.mapping import HFMapping
from bertwright.model.bert_family import CamembertConfig, RobertaConfig, XlmRobertaConfig
from bertwright.model.config import ModelConfig
from bertwright.tokenizer.load import SpecialIds

POSITIONS, PAD = "max_position_embeddings", "pad_token_id"


def read_extra(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the longest row: the position embeddings but for those up to padding's; raises ModelError."""
    rows, pad = values[POSITIONS], values[PAD]
    counted = all(type(number) is int for number in (rows, pad))
    return {"max_positions": rows - pad - 1 if counted else rows, "pad_token_id": pad}


def write_extra(config: ModelConfig, special: SpecialIds) -> dict[str, Any]:
    """Return the number of position embeddings, and the special tokens as config.json holds them."""
    assert isinstance(config, RobertaConfig)
    return {
        POSITIONS: config.first_position + config.max_positions,
        "bos_token_id": special.cls,
        "eos_token_id": special.sep,
        "use_cache": True,
    }


def classes(name: str) -> dict[str, Any]:
    """Return the classes of transformers that begin with a name."""
    tasks = {"row": "SequenceClassification", "choice": "MultipleChoice", "token": "TokenClassification"}
    return {
        "written_as": f"{name}ForMaskedLM",
        "bare": f"{name}Model",
        "fine_tuned_as": {kind: f"{name}For{task}" for kind, task in {**tasks, "span": "QuestionAnswering"}.items()},
    }


ROBERTA: HFMapping = replace(
    BERT,
    **classes("Roberta"),
    what="A RoBERTa encoder (Liu et al. 2019)",
    model_type="roberta",
    head_called={**BERT.head_called, "row": "classifier.out_proj"},
    pooled_as={"row": "classifier.dense"},
    config=RobertaConfig,
    fields={hf: local for hf, local in BERT.fields.items() if hf != POSITIONS},
    absent={POSITIONS: 512, PAD: 1, "type_vocab_size": 2},
    heads=("pooler.", "mlm_head."),
    prefix="roberta.",
    modules={
        **encoder_modules("roberta."),
        "roberta.pooler.dense": ("pooler.dense",),
        "lm_head.dense": ("mlm_head.dense",),
        "lm_head.layer_norm": ("mlm_head.norm",),
        "lm_head": ("mlm_head",),
        "lm_head.decoder": ("mlm_head",),  # read, not written: some folders hold its bias twice
    },
    blocks="roberta.encoder.layer",
    decoder="lm_head.decoder.weight",
    inputs=("input_ids", "attention_mask"),
    read_extra=read_extra,
    write_extra=write_extra,
)
XLM_ROBERTA = replace(
    ROBERTA,
    **classes("XLMRoberta"),
    what="An XLM-RoBERTa encoder (Conneau et al. 2020)",
    model_type="xlm-roberta",
    config=XlmRobertaConfig,
)
CAMEMBERT = replace(
    ROBERTA,
    **classes("Camembert"),
    what="A CamemBERT encoder (Martin et al. 2020)",
    model_type="camembert",
    config=CamembertConfig,
)
