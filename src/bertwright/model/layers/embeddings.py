"""Turns token ids into vectors: the sum of a word, a position and a segment embedding, normalised (Devlin 2018, §3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.config import BertConfig
from bertwright.model.layers.dropout import Dropout


class Embeddings(nn.Module):
    """Word, position and token-type embeddings."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.positions = nn.Embedding(config.max_positions, config.hidden_size)
        self.types = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, documents: Tensor | None = None, *, first: int = 0
    ) -> Tensor:
        """Return hidden states [B, S, H] of token ids and token types [B, S] from position `first` on.

        Where there are `documents` [B, S], the positions of each start at 0.
        """
        end = first + input_ids.shape[1]
        where = self.positions.weight[first:end] if documents is None else self.positions(positions_in(documents))
        summed = self.words(input_ids) + self._types(token_type_ids) + where
        hidden: Tensor = self.dropout(self.norm(summed))
        return hidden

    def _types(self, token_type_ids: Tensor) -> Tensor:
        """Pick by comparison, not by index: the gradient is then a sum, not 8,192 atomic additions to the same row."""
        weight: Tensor = self.types.weight
        vectors: Tensor = weight[0]
        for kind in range(1, self.types.num_embeddings):
            vectors = torch.where((token_type_ids == kind).unsqueeze(-1), weight[kind], vectors)
        return vectors


def positions_in(documents: Tensor) -> Tensor:
    """Return [B, S] int64: the place of each token in its document, from `documents` [B, S] (see `Batch`)."""
    place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    first = functional.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    return place - place.where(first, 0).cummax(1).values
