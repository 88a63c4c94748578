"""BERT: embeddings, blocks, and the two heads of its pre-training (Devlin 2018)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.encoder import SEQUENCE_HEADS, Encoder, HeadType
from bertwright.model.heads import MaskedTokenHead, NextSentenceHead, Pooler
from bertwright.model.init.noise import draw_weights
from bertwright.model.layers.activations import ACTIVATIONS
from bertwright.model.layers.attention import Attention, gather_positions
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask
from bertwright.model.layers.dropout import Dropout
from bertwright.model.layers.linear import Linear

SMALL_RMS = 0.05
"""Root mean square of word embeddings that `shrink_embeddings` aims at."""


class Embeddings(nn.Module):
    """The sum of a word, a position and a token-type embedding, normalised (Devlin 2018, section 3).

    An architecture may have no token types, or no positions. Sums of another width than the hidden states are projected
    to it after the norm (Clark et al. 2020).
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width, self.first, self.reads_types = config.embedding_width, config.first_position, config.reads_token_types
        self.words = nn.Embedding(config.vocab_size, width)
        if config.position_rows:
            self.positions = nn.Embedding(config.position_rows, width)
        if config.type_vocab_size:
            self.types = nn.Embedding(config.type_vocab_size, width)
        self.norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        if width != config.hidden_size:
            self.project = Linear(width, config.hidden_size)

    def forward(
        self, input_ids: Tensor, token_type_ids: Tensor, documents: Tensor | None = None, *, first: int = 0
    ) -> Tensor:
        """Return hidden states [B, S, H] of token ids and token types [B, S] from position `first` on.

        Where there are `documents` [B, S], the positions of each start at 0.
        """
        summed = self.words(input_ids)
        if hasattr(self, "types"):
            summed = summed + self._types(token_type_ids)
        if hasattr(self, "positions"):
            summed = summed + self._positions(input_ids.shape[1], documents, first + self.first)
        hidden: Tensor = self.dropout(self.norm(summed))
        return self.project(hidden) if hasattr(self, "project") else hidden

    def _positions(self, length: int, documents: Tensor | None, first: int) -> Tensor:
        """Return the vectors [S, E] of positions from `first` on, or [B, S, E] where each document has its own."""
        if documents is None:
            return self.positions.weight[first : first + length]
        vectors: Tensor = self.positions(positions_in(documents) + first)
        return vectors

    def _types(self, token_type_ids: Tensor) -> Tensor:
        """Pick by comparison, not by index: the gradient is then a sum, not 8,192 atomic additions to the same row."""
        weight: Tensor = self.types.weight
        vectors: Tensor = weight[0]
        for kind in range(1, self.types.num_embeddings if self.reads_types else 1):
            vectors = torch.where((token_type_ids == kind).unsqueeze(-1), weight[kind], vectors)
        return vectors


def positions_in(documents: Tensor) -> Tensor:
    """Return [B, S] int64: the position of each token in its document, from `documents` [B, S] (see `Batch`)."""
    position = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    first = functional.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    # The largest position of a first token so far is where the document of a token begins.
    return position - position.where(first, 0).cummax(1).values


class Block(nn.Module):
    """Post-LayerNorm Transformer block (Vaswani 2017), as a rule with an exact GELU (Hendrycks and Gimpel 2016).

    Attention, then an inner layer, each added to its input and normalised after.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attention = Attention(config, bias=True)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.inner = Linear(config.hidden_size, config.intermediate_size)
        self.outer = Linear(config.intermediate_size, config.hidden_size)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.dropout)
        self.activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor, mask: AttentionMask | LongRowMask, at: Tensor | None = None) -> Tensor:
        """Return hidden states [B, S, H] from hidden states and the mask of their rows; [B, M, H] with `at` [B, M]."""
        residual = hidden if at is None else gather_positions(hidden, at)
        attended = self.attention_norm(residual + self.dropout(self.attention(hidden, mask, at=at)))
        expanded = self.activation(self.inner(attended))
        normalised: Tensor = self.norm(attended + self.dropout(self.outer(expanded)))
        return normalised


class BertForPreTraining(Encoder):
    """BERT with its masked-token and next-sentence heads; what is BERT with other parts is in bert_family.py."""

    config_type: ClassVar[type[ModelConfig]] = BertConfig
    config: BertConfig
    embeddings: Embeddings
    has_nsp_head = True
    embeddings_type: ClassVar[type[Embeddings]] = Embeddings
    block_type: ClassVar[type[Block]] = Block
    bare_has_pooler: ClassVar[bool] = True
    """Whether transformers' class without heads has a pooler."""

    def __init__(self, config: BertConfig, *, drawn: bool = True) -> None:
        """Draw the weights from torch's default generator; not `drawn`, for those who load others, they are any."""
        super().__init__()
        self.config = config
        self.embeddings = self.embeddings_type(config)
        self.blocks = nn.ModuleList(self.block_type(config) for _ in range(config.layers))
        self.norm = nn.Identity()  # each block normalises what it returns
        self.pooler = Pooler(config)
        self.mlm_head = MaskedTokenHead(config)
        if self.has_nsp_head:
            self.nsp_head = NextSentenceHead(config)
        else:  # kept for tasks about rows; pre-training has no use for it
            self.pooler.requires_grad_(False)
        self._add_output_words()
        self._add_heads()
        if drawn:
            draw_weights(self, std=config.initializer_range)

    def _add_heads(self) -> None:
        """Make the heads that an architecture has beside those of BERT."""

    def block(self, number: int) -> Block:
        """Return block `number`, from 0."""
        block = self.blocks[number]
        assert isinstance(block, Block)
        return block

    def block_inputs(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> list[tuple[Any, ...]]:
        """Return the mask of rows [B, S], the same for each block."""
        return [(self.build_mask(attention_mask, documents, causal=causal, layout=layout),)] * len(self.blocks)

    def nsp_logits(self, hidden: Tensor) -> Tensor | None:
        """Return logits [B, 2] (B continues A, B comes from elsewhere) from hidden states, [CLS] first, or None."""
        return self.nsp_head(self.pooler(hidden)) if self.has_nsp_head else None

    def drop_heads(self, head_type: HeadType | None = None) -> None:
        """Delete the pre-training heads; heads over rows go on from the pooler, and BertModel has one, untrained."""
        for head in ("mlm_head", "nsp_head", "rtd_head", "output_words"):
            if hasattr(self, head):
                delattr(self, head)
        if head_type in SEQUENCE_HEADS or (head_type is None and self.bare_has_pooler):
            self.pooler.requires_grad_(head_type is not None)
        else:
            del self.pooler

    def head_inputs(self, hidden: Tensor, head_type: HeadType) -> Tensor:
        """Return the pooled vector of each row [B, 1, H], or the hidden states of tokens as they are."""
        return self.pooler(hidden).unsqueeze(1) if head_type in SEQUENCE_HEADS else hidden


@torch.no_grad()
def shrink_embeddings(model: BertForPreTraining) -> None:
    """Divide all embeddings by a power of two, so that words have a root mean square of about `SMALL_RMS`, if not less.

    Embeddings are normalised as soon as they are added up, so their common size changes no hidden state; the
    vocabulary, which is scored with the same vectors, gets them multiplied by the last LayerNorm of the masked-token
    head. But an Adam step has one size: at the rates of fine-tuning it moves small vectors further. See
    results/README.md for what it brings. Powers of two round nothing: all scores stay as they were, but for the epsilon
    of the first LayerNorm.
    """
    words = model.embeddings.words.weight
    factor = 2.0 ** max(0, round(math.log2(max(float(words.square().mean().sqrt()), SMALL_RMS) / SMALL_RMS)))
    for table in (words, model.embeddings.positions.weight, model.embeddings.types.weight):
        table.div_(factor)
    for vector in (model.mlm_head.norm.weight, model.mlm_head.norm.bias):
        vector.mul_(factor)
