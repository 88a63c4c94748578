"""Turns rows of tokens into one vector each: hidden states of a layer, pooled, and of unit length where wanted.

    row -> encoder, up to `layer` -> hidden states -> mean, first or largest -> vector

They are the vectors of sentence-transformers' Transformer, Pooling and Normalize (Reimers and Gurevych, 2019,
"Sentence-BERT").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.encoder import Encoder
from bertwright.types import TokenRows

Pooling = Literal["mean", "cls", "max"]


class SentenceEncoder(nn.Module):
    """An encoder whose answer to a row is a vector.

    >>> # needs a model
    >>> model = SentenceEncoder(load_model(Path("runs/en/model")), pooling="mean", normalize=True)  # doctest: +SKIP
    >>> vectors = model(batch)  # [B, H]  # doctest: +SKIP
    """

    def __init__(
        self, encoder: Encoder, *, pooling: Pooling, normalize: bool, layer: int | None = None, skip: int = 0
    ) -> None:
        """Take over `encoder`, without its heads; `layer` counts blocks, 0 for the embeddings, None for the last.

        The first `skip` tokens of a row, [CLS] and those of a prompt, are not pooled.
        """
        super().__init__()
        self.skip = skip
        encoder.drop_heads()
        self.encoder, self.pooling, self.normalize = encoder, pooling, normalize
        self.layer = encoder.config.layers if layer is None else layer

    def forward(self, rows: TokenRows) -> Tensor:
        """Return vectors [B, H] float32 of rows of B texts."""
        mask = rows.attention_mask
        hidden = self.encoder.hidden_states(rows.input_ids, rows.token_type_ids, mask, layer=self.layer)
        pooled, kept = hidden[:, self.skip :], mask[:, self.skip :]
        vectors = POOLINGS[self.pooling](pooled.float(), kept.unsqueeze(-1))
        return functional.normalize(vectors, dim=-1) if self.normalize else vectors


def mean_of(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, H] of hidden states [B, S, H] where `mask` [B, S, 1] has a token."""
    return (hidden * mask).sum(1) / mask.sum(1)


def first_of(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the hidden states [B, H] of the first token, [CLS]."""
    return hidden[:, 0]


def largest_of(hidden: Tensor, mask: Tensor) -> Tensor:
    """Return the largest value [B, H] of each unit where `mask` [B, S, 1] has a token."""
    return hidden.masked_fill(~mask, torch.finfo(hidden.dtype).min).amax(1)


POOLINGS: dict[Pooling, Callable[[Tensor, Tensor], Tensor]] = {"mean": mean_of, "cls": first_of, "max": largest_of}
"""From hidden states [B, S, H] and a mask [B, S, 1] to vectors [B, H]."""
