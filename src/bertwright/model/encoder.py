"""What every architecture is to the rest of the walk: an example in, scores out; the modules are its own.

example -> encode, asked about the masked positions -> hidden states there -> mlm_logits -> Scores
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.model.config import ModelConfig
from bertwright.model.layers.attention_mask import AttentionMask, LongSight, build_mask
from bertwright.types import MaskedBatch, Scores

Part = Literal["row", "choice", "token", "span"]
"""What a task is about: a whole row, or one among several rows; tokens of a row, or a span of them."""
LONG = 1024
"""Tokens of a row above which attention on a CPU is computed for some queries at a time."""
SCORES_KEPT = 2.5
"""Tensors of the size of a block's attention scores that are kept: exponentials, what is left of them, and which."""
SEQUENCE_HEADS: tuple[Part, ...] = ("row", "choice")
"""Those whose head reads one vector of a row, that of [CLS] or a mean; the others' read those of tokens."""


class Encoder(nn.Module, ABC):
    """An encoder with a masked-token head.

    >>> # needs a batch
    >>> model = build_encoder(named_size("mini", vocab_size=8192))  # doctest: +SKIP
    >>> scores = model(example)  # Scores(mlm [B, M, V], nsp [B, 2] or None)  # doctest: +SKIP
    """

    config_type: ClassVar[type[ModelConfig]]
    """The settings of the architecture."""
    config: ModelConfig
    has_nsp_head: bool = False
    """Whether there is a next-sentence head; it reads the first token of a row."""

    @property
    @abstractmethod
    def word_embeddings(self) -> nn.Embedding:
        """The embeddings of the vocabulary, which the MLM head scores with."""

    @abstractmethod
    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        at: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Return the last hidden states [B, S, H] of ids [B, S], token types [B, S] and a mask [B, S] bool.

        With `at` [B, M], those at these positions alone, [B, M, H]: the last block computes no others. With `documents`
        [B, S] (see `Batch`) they are what each document of a packed row would have in a row of its own.
        """

    @abstractmethod
    def states(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, *, layer: int) -> Tensor:
        """Return the hidden states [B, S, H] after `layer` blocks: 0 is the embeddings, all of them what `encode` has.

        They are `hidden_states` of transformers; blocks past `layer` are not computed.
        """

    @abstractmethod
    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Return logits [..., V] of the vocabulary from hidden states [..., H]."""

    def nsp_logits(self, hidden: Tensor) -> Tensor | None:
        """Return logits [B, 2] (B continues A, B comes from elsewhere) from hidden states, [CLS] first, or None."""
        return None

    @abstractmethod
    def keep_for(self, part: Part) -> None:
        """Let go of the pre-training heads, but for what a task about `part` goes on from; there is no way back."""

    @abstractmethod
    def keep_states(self) -> None:
        """Let go of all that is not needed for hidden states; there is no way back.

        BERT keeps its pooler, unused and untrained, since transformers' BertModel has one.
        """

    @abstractmethod
    def vectors(self, hidden: Tensor, part: Part) -> Tensor:
        """Return what a task's head reads, [B, M, H], from hidden states [B, M, H]: for rows of [CLS], or a mean."""

    def forward(self, example: MaskedBatch) -> Scores:
        """Return the scores of an example: the vocabulary at its masked positions, and next sentence where known.

        Only the 15% to 30% of tokens that are asked about go through the last block, where they still see all others,
        and through the MLM head, whose vocabulary is the largest product of a small model.
        """
        asked = example.masked_positions
        at = functional.pad(asked, (1, 0)) if self.has_nsp_head else asked
        hidden = self.encode(
            example.input_ids, example.token_type_ids, example.attention_mask, at, documents=example.documents
        )
        return Scores(mlm=self.mlm_logits(hidden[:, at.shape[1] - asked.shape[1] :]), nsp=self.nsp_logits(hidden))

    def all_logits(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the MLM logits [B, S, V] at every position."""
        return self.mlm_logits(self.encode(input_ids, token_type_ids, attention_mask))

    def sight(
        self, attention_mask: Tensor, documents: Tensor | None, *, window: int | None = None
    ) -> AttentionMask | LongSight:
        """Return what the tokens of rows [B, S] look at; by blocks in compiled code on CUDA, where no share is dropped.

        Uncompiled, a mask of blocks would be computed as a bias is, only slower.
        """
        if attention_mask.shape[1] > LONG and not attention_mask.is_cuda and not torch.compiler.is_compiling():
            return LongSight(attention_mask, documents, window)
        drops = self.training and self.config.attention_dropout > 0
        blocks = attention_mask.is_cuda and torch.compiler.is_compiling() and not drops
        return build_mask(attention_mask, documents, window=window, blocks=blocks)


def parameter_count(model: nn.Module) -> int:
    """Return the number of weights of a model, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def kept_bytes(shape: ModelConfig, length: int) -> int:
    """Return about how many bytes an encoder keeps of a row of so many tokens until its backward pass, in float32.

    Measured uncompiled: MiniLM (6 layers) keeps 24 MB of 64 tokens and 213 MB of 512, BERT base 1.1 GB of 512.
    """
    states = (24 * shape.hidden_size + 4 * shape.intermediate_size) * length
    scores = 0 if length > LONG else round(SCORES_KEPT * shape.heads * length**2)
    return 4 * shape.layers * (states + scores)
