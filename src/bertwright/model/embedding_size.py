"""Turns a BERT with large embeddings into one with small ones that answers the same: fine-tuning moves those further.

Embeddings are normalised as soon as they are added up, so their common size changes no hidden state; the vocabulary,
which is scored with the same vectors, gets them multiplied by the last LayerNorm of the masked-token head. But an Adam
step has one size: at the rates of fine-tuning it moves small vectors further. See results/README.md for what it brings.
"""

from __future__ import annotations

import math

import torch

from bertwright.model.bert import BertForPreTraining

SMALL = 0.05
"""Root mean square of word embeddings that is aimed at."""


@torch.no_grad()
def shrink_embeddings(model: BertForPreTraining) -> None:
    """Divide all embeddings by a power of two, so that words have a root mean square of about `SMALL`, if not less.

    The masked-token head's last LayerNorm is multiplied by it. Powers of two round nothing: all scores stay as they
    were, but for the epsilon of the first LayerNorm.
    """
    words = model.embeddings.words.weight
    factor = 2.0 ** max(0, round(math.log2(max(float(words.square().mean().sqrt()), SMALL) / SMALL)))
    for table in (words, model.embeddings.positions.weight, model.embeddings.types.weight):
        table.div_(factor)
    for vector in (model.mlm_head.norm.weight, model.mlm_head.norm.bias):
        vector.mul_(factor)
