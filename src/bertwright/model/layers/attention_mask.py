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
        return attention_bias(self.attention_mask, self.documents, window=self.window, queries=queries, keys=keys)


def build_mask(
    attention_mask: Tensor, documents: Tensor | None = None, *, window: int | None = None, blocks: bool = False
) -> AttentionMask:
    """Return the mask of rows [B, S] (see `Batch`); with `window`, of tokens at most window // 2 away alone.

    With `blocks`, and where rows are packed, it has a mask of blocks too.
    """
    bias = attention_bias(attention_mask, documents, window=window)
    if documents is None or not blocks:
        return AttentionMask(bias)
    rows, length = documents.shape
    rule = mask_mod(documents, window)
    return AttentionMask(bias, create_block_mask(rule, rows, None, length, length, device=documents.device))


def attention_bias(
    attention_mask: Tensor,
    documents: Tensor | None = None,
    *,
    window: int | None = None,
    queries: Tensor | None = None,
    keys: slice = slice(None),
) -> Tensor:
    """Return float32 [B, 1, 1 or M, K]: 0 where a query may attend to a key, MASK_VALUE where not.

    Keys must be tokens, with `documents` [B, S] those of the query's document (padding then attends to padding), with
    `window` at most window // 2 positions away. Queries are at positions `queries` [B or 1, M], everywhere if None.
    """
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    if documents is None:
        bias = torch.where(attention_mask[:, keys], 0.0, MASK_VALUE)[:, None, None, :]
    else:
        rows = torch.arange(len(documents), device=documents.device)[:, None]
        of_queries = documents if queries is None else documents[rows, queries]
        bias = torch.where(of_queries[:, :, None] == documents[:, None, keys], 0.0, MASK_VALUE)[:, None]
    if window is None:
        return bias
    distances = (positions[None] if queries is None else queries)[:, :, None] - positions[keys]
    return bias.masked_fill((distances.abs() > window // 2)[:, None], MASK_VALUE)


def mask_mod(documents: Tensor, window: int | None = None) -> Rule:
    """Return the rule of packed rows `documents` [B, S]: does the token at `query` of a row attend to that at `key`?"""

    def rule(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = documents[row, query] == documents[row, key]
        return same if window is None else same & ((query - key).abs() <= window // 2)

    return rule
