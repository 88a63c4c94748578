"""Turns the tokens and documents of rows into a mask: which tokens of its row each token may attend to.

Those of the same document and, in a local block, near ones alone. The mask is made once a forward pass, as numbers
added to the scores, and for packed rows in a compiled CUDA model also as a mask of blocks, from which the compiler
makes a kernel that never reads numbers for every pair of tokens. For long rows on a CPU these numbers, 268 MB for a row
of 8,192 tokens, are made for some queries at a time (`LongRowMask`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

MASK_VALUE = -1e30
"""Added to the score of a token that is masked: its probability is zero, in bfloat16 too, and a row of padding, where
all are masked, stays finite, which minus infinity would not."""


@dataclass(frozen=True)
class AttentionMask:
    """What each token of a batch attends to.

    bias    [B, 1, 1 or S, S] float32: 0 where a token may be attended to, MASK_VALUE where not
    blocks  the same for `flex_attention`, or None where `bias` is to be used
    """

    bias: Tensor
    blocks: BlockMask | None = None


@dataclass(frozen=True)
class LongRowMask:
    """What each token of a batch of long rows attends to, computed for some queries at a time.

    attention_mask  [B, S] bool
    documents       [B, S] int64, or None (see `Batch`)
    window          tokens a query attends to, half of them on either side; None for all
    """

    attention_mask: Tensor
    documents: Tensor | None
    window: int | None

    def keys_of(self, first: int, last: int) -> slice:
        """Return the keys that queries from `first` up to `last` may attend to."""
        if self.window is None:
            return slice(0, self.attention_mask.shape[1])
        return slice(max(0, first - self.window // 2), last + self.window // 2)

    def bias(self, queries: Tensor, keys: slice) -> Tensor:
        """Return [B, 1, 1 or M, K]: what is added to the scores of queries at positions [B or 1, M] for some keys."""
        if self.documents is None:
            bias = attention_bias(self.attention_mask[:, keys])
        else:
            rows = torch.arange(len(self.documents), device=queries.device)[:, None]
            same = self.documents[rows, queries][:, :, None] == self.documents[:, None, keys]
            bias = torch.where(same, 0.0, MASK_VALUE)[:, None]
        if self.window is None:
            return bias
        positions = torch.arange(self.attention_mask.shape[1], device=queries.device)[keys]
        far = (queries[:, :, None] - positions).abs() > self.window // 2
        return bias.masked_fill(far[:, None], MASK_VALUE)


def build_mask(
    attention_mask: Tensor, documents: Tensor | None = None, *, window: int | None = None, blocks: bool = False
) -> AttentionMask:
    """Return the mask of rows [B, S] (see `Batch`); with `window`, of tokens at most window // 2 away alone.

    With `blocks`, and where rows are packed, it has a mask of blocks too.
    """
    bias = attention_bias(attention_mask, documents)
    if window is not None:
        bias = window_bias(bias, window)
    if documents is None or not blocks:
        return AttentionMask(bias)
    rows, length = documents.shape
    rule = mask_mod(documents, window)
    return AttentionMask(bias, create_block_mask(rule, rows, None, length, length, device=documents.device))


def attention_bias(attention_mask: Tensor, documents: Tensor | None = None) -> Tensor:
    """Return float32: 0 where a token stands, MASK_VALUE for padding, [B, 1, 1, S].

    With `documents`, MASK_VALUE in all documents but that of the token, [B, 1, S, S]; padding attends to padding.
    """
    if documents is None:
        return torch.where(attention_mask, 0.0, MASK_VALUE)[:, None, None, :]
    return torch.where(documents[:, :, None] == documents[:, None, :], 0.0, MASK_VALUE)[:, None]


def window_bias(bias: Tensor, window: int) -> Tensor:
    """Return [B, 1, S, S]: `bias` [B, 1, 1 or S, S], and MASK_VALUE where keys are over window // 2 tokens away."""
    positions = torch.arange(bias.shape[-1], device=bias.device)
    far = (positions[:, None] - positions[None, :]).abs() > window // 2
    return bias.masked_fill(far, MASK_VALUE)


def mask_mod(documents: Tensor, window: int | None = None) -> Rule:
    """Return the rule of packed rows `documents` [B, S]: does the token at `query` of a row attend to that at `key`?"""

    def rule(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = documents[row, query] == documents[row, key]
        return same if window is None else same & ((query - key).abs() <= window // 2)

    return rule
