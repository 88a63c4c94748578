"""Turns the tokens and documents of rows into a mask: which tokens of its row each token may attend to.

Those of the same document, in a local block near ones alone, and in a causal batch those before it alone. The mask is
made once a forward pass, as numbers added to the scores. For long rows on a CPU these numbers, 268 MB for a row of
8,192 tokens, are made for some queries at a time (`LongRowMask`). Kernels of a GPU read no numbers for pairs of tokens,
but where each document begins, or which blocks of pairs see nothing of each other (`KernelMask`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from bertwright.batch_layout import UNKNOWN_ROWS, RowLayout
from bertwright.model.layers.attention_kernel import Kernel

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

MASK_VALUE = -1e30
"""Added to the score of a token that is masked: its probability is zero, in bfloat16 too, and a row of padding, where
all are masked, stays finite, which minus infinity would not."""


@dataclass(frozen=True)
class AttentionMask:
    """What each token of a batch attends to.

    bias  [B or 1, 1, 1 or S, S] float32: 0 where a token may be attended to, MASK_VALUE where not
    """

    bias: Tensor


@dataclass(frozen=True)
class LongRowMask:
    """What each token of a batch of long rows attends to, computed for some queries at a time.

    attention_mask  [B, S] bool
    documents       [B, S] int64, or None (see `Batch`)
    window          tokens a query attends to, half of them on either side; None for all
    causal          whether it attends to itself and those before it alone
    """

    attention_mask: Tensor
    documents: Tensor | None
    window: int | None
    causal: bool = False

    def keys_of(self, first: int, last: int) -> slice:
        """Return the keys that queries from `first` up to `last` may attend to."""
        length = self.attention_mask.shape[1]
        before, after = (length, length) if self.window is None else (self.window // 2, self.window // 2)
        return slice(max(0, first - before), last if self.causal else min(length, last + after))

    def bias(self, queries: Tensor, keys: slice) -> Tensor:
        """Return [B, 1, 1 or M, K]: what is added to the scores of queries at positions [B or 1, M] for some keys."""
        rows = self.attention_mask, self.documents
        return attention_bias(*rows, window=self.window, queries=queries, keys=keys, causal=self.causal)


@dataclass(frozen=True)
class KernelMask(LongRowMask):
    """What each token of a batch attends to, for a kernel that reads no numbers for pairs of tokens.

    kernel     "no mask", "varlen" or "flex"
    layout     what is known of the rows
    sequences  [N + 1] int32: where among all tokens of the batch, row after row, each run of tokens begins that see one
               another, those of a document or of the padding of a row; the last entry is B S. For "varlen"
    blocks     which blocks of pairs are skipped, for "flex"
    """

    kernel: Kernel = "no mask"
    layout: RowLayout = UNKNOWN_ROWS
    sequences: Tensor | None = None
    blocks: BlockMask | None = None

    def bias_of(self, at: Tensor | None) -> Tensor | None:
        """Return what is added to the scores of queries at positions [B, M], or at all; None where that is nothing."""
        if self.layout.full and self.window is None and not self.causal:
            return None
        rows = None if self.layout.full else self.documents
        return attention_bias(self.attention_mask, rows, window=self.window, queries=at, causal=self.causal)


def kernel_mask(
    kernel: Kernel,
    attention_mask: Tensor,
    documents: Tensor | None,
    layout: RowLayout,
    *,
    window: int | None = None,
    causal: bool = False,
) -> KernelMask:
    """Return the mask of rows [B, S] for a kernel (see `kernel_for`)."""
    sequences = blocks = None
    if kernel == "varlen":
        sequences = sequence_starts(attention_mask, documents, layout)
    elif kernel == "flex":
        assert documents is not None
        rows, length = documents.shape
        rule = mask_mod(documents, window, causal=causal)
        blocks = create_block_mask(rule, rows, None, length, length, device=documents.device)
    return KernelMask(attention_mask, documents, window, causal, kernel, layout, sequences, blocks)


def sequence_starts(attention_mask: Tensor, documents: Tensor | None, layout: RowLayout) -> Tensor:
    """Return `KernelMask.sequences` of rows [B, S], by operations whose shapes do not depend on numbers.

    N is B for full rows, 2 B for padded ones, each of which ends in padding, if perhaps none, and `layout.sequences`
    for packed ones, the last of them empty.
    """
    rows, length = attention_mask.shape
    ends = torch.arange(0, rows * length + 1, length, dtype=torch.int32, device=attention_mask.device)
    if layout.full:
        return ends
    if documents is None:
        paddings = ends[:-1] + attention_mask.sum(1, dtype=torch.int32)
        return torch.cat([torch.stack([ends[:-1], paddings], 1).flatten(), ends[-1:]])
    opens = functional.pad(documents[:, 1:] != documents[:, :-1], (1, 0), value=True)
    number = opens.flatten().cumsum(0)  # of the run that each token is in, from 1
    wanted = torch.arange(1, layout.sequences + 2, device=documents.device)
    return torch.searchsorted(number, wanted, out_int32=True)


def build_mask(
    attention_mask: Tensor, documents: Tensor | None = None, *, window: int | None = None, causal: bool = False
) -> AttentionMask:
    """Return the mask of rows [B, S] (see `Batch`); with `window`, of tokens at most window // 2 away alone.

    A `causal` one is of tokens before the query alone.
    """
    return AttentionMask(attention_bias(attention_mask, documents, window=window, causal=causal))


def attention_bias(
    attention_mask: Tensor,
    documents: Tensor | None = None,
    *,
    window: int | None = None,
    queries: Tensor | None = None,
    keys: slice = slice(None),
    causal: bool = False,
) -> Tensor:
    """Return float32 [B or 1, 1, 1 or M, K]: 0 where a query may attend to a key, MASK_VALUE where not.

    Keys must be tokens, with `documents` [B, S] those of the query's document (padding then attends to padding), with
    `window` at most window // 2 positions away, and in a `causal` mask not after the query: then no token sees padding,
    which ends a row, and all rows are alike. Queries are at positions `queries` [B or 1, M], everywhere if None.
    """
    positions = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    if documents is None and causal:
        bias = torch.zeros(1, 1, 1, 1, device=attention_mask.device)
    elif documents is None:
        bias = torch.where(attention_mask[:, keys], 0.0, MASK_VALUE)[:, None, None, :]
    else:
        rows = torch.arange(len(documents), device=documents.device)[:, None]
        of_queries = documents if queries is None else documents[rows, queries]
        bias = torch.where(of_queries[:, :, None] == documents[:, None, keys], 0.0, MASK_VALUE)[:, None]
    if window is None and not causal:
        return bias
    distances = (positions[None] if queries is None else queries)[:, :, None] - positions[keys]
    masked = distances < 0 if causal else distances.abs() > (window or 0) // 2
    if causal and window is not None:
        masked |= distances > window // 2
    return bias.masked_fill(masked[:, None], MASK_VALUE)


def mask_mod(documents: Tensor, window: int | None = None, *, causal: bool = False) -> Rule:
    """Return the rule of packed rows `documents` [B, S]: does the token at `query` of a row attend to that at `key`?"""

    def rule(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = documents[row, query] == documents[row, key]
        if causal:
            same = same & (query >= key)
        return same if window is None else same & ((query - key).abs() <= window // 2)

    return rule
