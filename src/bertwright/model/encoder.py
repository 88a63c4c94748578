"""What every architecture has in common: embeddings, blocks and a masked-token head turn a MaskedBatch into Scores.

MaskedBatch -> encode, at the masked positions -> hidden states there -> mlm_logits -> Scores
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.model.config import ModelConfig
from bertwright.model.heads import MaskedTokenHead
from bertwright.model.layers.attention_kernel import AttentionCall, capability_of, kernel_for, rows_of
from bertwright.model.layers.attention_mask import AttentionMask, LongRowMask, build_mask, kernel_mask
from bertwright.model.layers.on_gpu import on_gpu
from bertwright.types import MaskedBatch, Scores, UnscoredWords

HeadType = Literal["row", "choice", "token", "span"]
"""What the head of a task scores: a whole row, or one among several rows; tokens of a row, or a span of them."""
LONG = 1024
"""Tokens of a row above which attention on a CPU is computed for some queries at a time."""
SCORES_KEPT = 2.5
"""Tensors of the size of a block's attention scores that are kept: exponentials, what is left of them, and which."""
SEQUENCE_HEADS: tuple[HeadType, ...] = ("row", "choice")
"""Those whose head reads one vector of a row, that of [CLS] or a mean; the others' read those of tokens."""


class Encoder(nn.Module, ABC):
    """An encoder with a masked-token head.

    A subclass makes `embeddings` (called with ids, token types and documents, each [B, S] or None), `blocks`, `norm`
    (what follows the last block) and `mlm_head`; `block_inputs` gives what its blocks read beside hidden states.

    >>> # needs a batch
    >>> model = build_encoder(named_size("mini", vocab_size=8192))  # doctest: +SKIP
    >>> scores = model(batch)  # Scores(mlm [B, M, V], nsp [B, 2] or None)  # doctest: +SKIP
    """

    config_type: ClassVar[type[ModelConfig]]
    """The settings of the architecture."""
    config: ModelConfig
    recompute: bool = False
    """Whether blocks keep their input alone until the backward pass, and are computed again there."""
    has_nsp_head: bool = False
    """Whether there is a next-sentence head; it reads the first token of a row."""
    leaves_scores: bool = False
    """Whether uncompiled training leaves scoring the vocabulary to the loss (see `objectives/word_loss.py`)."""
    adds_to_scores: ClassVar[bool] = False
    """Whether its attention adds to the scores of each pair of tokens more than a mask."""
    output_words: nn.Embedding
    """The matrix that words are scored with, where it is not that of their embeddings (`tie_word_embeddings`)."""
    embeddings: nn.Module
    blocks: nn.ModuleList
    norm: nn.Module
    mlm_head: MaskedTokenHead

    @abstractmethod
    def block_inputs(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> list[tuple[Any, ...]]:
        """Return what each block reads of rows [B, S] beside hidden states: their mask, and rotary angles if any."""

    @property
    def windows(self) -> tuple[int | None, ...]:
        """What tokens attend to in one block or another: so many around them, or None for all."""
        return (None,)

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The embeddings of the vocabulary, which the MLM head scores with where they are tied."""
        words = self.embeddings.words
        assert isinstance(words, nn.Embedding)
        return words

    def encode(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor,
        attention_mask: Tensor,
        at: Tensor | None = None,
        documents: Tensor | None = None,
        *,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> Tensor:
        """Return the last hidden states [B, S, H] of ids [B, S], token types [B, S] and a mask [B, S] bool.

        With `at` [B, M], those at these positions alone, [B, M, H]: the last block computes no others. With `documents`
        [B, S] (see `Batch`) they are what each document of a packed row would have alone in a row. Where `causal`, each
        token attends to itself and those before it alone. `layout` is what is known of the rows beforehand.
        """
        inputs = self.block_inputs(attention_mask, documents, causal=causal, layout=layout)
        hidden: Tensor = self.embeddings(input_ids, token_type_ids, documents)
        for block, others in zip(self.blocks[:-1], inputs[:-1], strict=True):
            hidden = self._through(block, hidden, *others)
        last: Tensor = self.norm(self._through(self.blocks[-1], hidden, *inputs[-1], at))
        return last

    def _through(self, block: nn.Module, *inputs: Any) -> Tensor:
        """Return what a block makes of its inputs; with `recompute` it is computed again in the backward pass.

        Dropout is drawn alike then (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
        """
        if self.recompute and self.training and torch.is_grad_enabled():
            again: Tensor = checkpoint(block, *inputs, use_reentrant=False)
            return again
        hidden: Tensor = block(*inputs)
        return hidden

    def hidden_states(self, input_ids: Tensor, token_type_ids: Tensor, attention_mask: Tensor, *, layer: int) -> Tensor:
        """Return the hidden states [B, S, H] after `layer` blocks: 0 is the embeddings, all of them what `encode` has.

        They are `hidden_states` of transformers; blocks past `layer` are not computed.
        """
        inputs = self.block_inputs(attention_mask, None)
        hidden: Tensor = self.embeddings(input_ids, token_type_ids)
        for block, others in zip(self.blocks[:layer], inputs[:layer], strict=True):
            hidden = self._through(block, hidden, *others)
        last: Tensor = self.norm(hidden) if layer == self.config.layers else hidden
        return last

    def mlm_logits(self, hidden: Tensor) -> Tensor:
        """Return logits [..., V] of the vocabulary from hidden states [..., H]."""
        logits: Tensor = self.mlm_head(hidden, self.output_matrix)
        return logits

    @property
    def output_matrix(self) -> Tensor:
        """The vectors [V, E] that the MLM head compares hidden states with: the word embeddings, where tied."""
        matrix: Tensor = self.word_embeddings.weight if self.config.tie_word_embeddings else self.output_words.weight
        return matrix

    def _add_output_words(self) -> None:
        """Make the matrix that words are scored with, where it is not tied to their embeddings."""
        if not self.config.tie_word_embeddings:
            self.output_words = nn.Embedding(self.config.vocab_size, self.config.embedding_width)

    def nsp_logits(self, hidden: Tensor) -> Tensor | None:
        """Return logits [B, 2] (B continues A, B comes from elsewhere) from hidden states, [CLS] first, or None."""
        return None

    @abstractmethod
    def drop_heads(self, head_type: HeadType | None = None) -> None:
        """Delete the pre-training heads, but for what a head of `head_type` goes on from; there is no way back.

        None leaves what hidden states need, and BERT's pooler, unused and untrained, since transformers' BertModel has
        one.
        """

    @abstractmethod
    def head_inputs(self, hidden: Tensor, head_type: HeadType) -> Tensor:
        """Return what a task's head takes, [B, M, H], from hidden states [B, M, H]: for rows of [CLS], or a mean."""

    def forward(self, batch: MaskedBatch, head: nn.Module | None = None) -> Scores:
        """Return the scores of a batch: the vocabulary at its masked positions, and next sentence where known.

        Only the 15% to 30% of tokens that are scored go through the last block, where they still attend to all others,
        and through the MLM head, whose vocabulary is the largest product of a small model. Of a causal batch all but
        the last are scored, and [CLS], which sees itself alone, is asked nothing about the row. With a `head` of the
        objective, the vocabulary is scored too by the vectors it makes of the hidden states at `batch.boundaries`.
        """
        read, rows = batch.masked_positions, (batch.input_ids, batch.token_type_ids, batch.attention_mask)
        if batch.causal:
            hidden = self.encode(*rows, documents=batch.documents, causal=True, layout=batch.layout)
            return self._scores(hidden[:, : read.shape[1]])
        if head is not None and batch.boundaries is not None:
            read = torch.cat([read, batch.boundaries.flatten(1)], 1)
        at = functional.pad(read, (1, 0)) if self.has_nsp_head else read
        hidden = self.encode(*rows, at, documents=batch.documents, layout=batch.layout)
        first = at.shape[1] - read.shape[1]
        end = first + batch.masked_positions.shape[1]
        vectors = None if head is None else head(hidden[:, end:], batch)
        return self._scores(
            hidden[:, first:end],
            nsp=self.nsp_logits(hidden),
            boundary=None if vectors is None else self.mlm_head.score(vectors, self.output_matrix),
        )

    def _scores(self, hidden: Tensor, *, nsp: Tensor | None = None, boundary: Tensor | None = None) -> Scores:
        """Return the scores of the vocabulary from hidden states [B, M, H], beside the others."""
        trains = self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if not (self.leaves_scores and trains):
            return Scores(self.mlm_logits(hidden), nsp, boundary=boundary)
        vectors = self.mlm_head.transform(hidden)
        unscored = UnscoredWords(vectors.to(compute_dtype(hidden)), self.output_matrix, self.mlm_head.bias)
        return Scores(vectors[..., :0], nsp, boundary=boundary, unscored=unscored)

    def build_mask(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        window: int | None = None,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> AttentionMask | LongRowMask:
        """Return the mask of rows [B, S]: of numbers for all pairs of tokens only where no kernel does without."""
        call = self.attention_call(attention_mask, documents, window=window, causal=causal, layout=layout)
        kernel = kernel_for(call)
        if kernel == "cpu" and call.length > LONG and not call.compiled:
            return LongRowMask(attention_mask, documents, window, causal)
        if kernel in ("cpu", "mask"):
            return build_mask(attention_mask, documents, window=window, causal=causal)
        return kernel_mask(kernel, attention_mask, documents, layout, window=window, causal=causal)

    def attention_call(
        self,
        attention_mask: Tensor,
        documents: Tensor | None,
        *,
        window: int | None = None,
        causal: bool = False,
        layout: RowLayout = UNKNOWN_ROWS,
    ) -> AttentionCall:
        """Return what is known of the attention of rows [B, S] before it is computed."""
        gpu = on_gpu(attention_mask)
        layout = layout if gpu else UNKNOWN_ROWS  # code for a CPU is the same whatever it says
        first = getattr(self.blocks[0], "attention", None)
        return AttentionCall(
            device="cuda" if gpu else "cpu",
            capability=capability_of(attention_mask.device.index or 0) if gpu else (0, 0),
            dtype=compute_dtype(self.word_embeddings.weight),
            width=self.config.hidden_size // self.config.heads,
            rows=rows_of(documents, layout),
            length=attention_mask.shape[1],
            window=window,
            causal=causal,
            dropout=self.config.attention_dropout if self.training else 0.0,
            compiled=torch.compiler.is_compiling(),
            scores=self.adds_to_scores or getattr(first, "observe", None) is not None,
            counted=layout.sequences > 0,
        )


def compute_dtype(values: Tensor) -> torch.dtype:
    """Return the type that products of float `values` have here: that of autocast, where it is on."""
    kind = values.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else values.dtype


def parameter_count(model: nn.Module) -> int:
    """Return the number of weights of a model, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def kept_bytes(shape: ModelConfig, length: int, *, recompute: bool = False) -> int:
    """Return about how many bytes an encoder keeps of a row of so many tokens until its backward pass, in float32.

    With `recompute` that is the input of each block, and all of one block at a time.
    Measured uncompiled: MiniLM (6 layers) keeps 24 MB of 64 tokens and 213 MB of 512, BERT base 1.1 GB of 512.
    """
    hidden = (24 * shape.hidden_size + 4 * shape.intermediate_size) * length
    scores = 0 if length > LONG else round(SCORES_KEPT * shape.heads * length**2)
    if recompute:
        return 4 * (shape.layers * shape.hidden_size * length + hidden + scores)
    return 4 * shape.layers * (hidden + scores)
