"""Says which tokens of its row a token looks at: those of its own document and, in a local block, near ones alone.

Made once a forward, as numbers added to the scores, and for packed rows in a compiled CUDA model also as a mask of
blocks, from which the compiler makes a kernel that never reads numbers for every pair of tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

Rule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

UNSEEN = -1e30
"""Added to the score of what must not be looked at: its share comes out as zero, in bfloat16 too, and a row of padding
that sees nothing stays finite, which minus infinity would not."""


@dataclass(frozen=True)
class Sight:
    """What each token of a batch looks at.

    bias    [B, 1, 1 or S, S] float32: 0 where a token may be looked at, UNSEEN where not
    blocks  the same for `flex_attention`, or None where `bias` is to be used
    """

    bias: Tensor
    blocks: BlockMask | None = None


def sight_of(
    attention_mask: Tensor, documents: Tensor | None = None, *, window: int | None = None, blocks: bool = False
) -> Sight:
    """Return the sight of rows [B, S] (see `Batch`); with `window`, of tokens at most window // 2 away alone.

    `blocks` asks for the mask of blocks too, where rows are packed.
    """
    bias = attention_bias(attention_mask, documents)
    if window is not None:
        bias = window_bias(bias, window)
    if documents is None or not blocks:
        return Sight(bias)
    rows, length = documents.shape
    rule = looks_at(documents, window)
    return Sight(bias, create_block_mask(rule, rows, None, length, length, device=documents.device))


def attention_bias(attention_mask: Tensor, documents: Tensor | None = None) -> Tensor:
    """Return float32: 0 where a token stands, UNSEEN for padding, [B, 1, 1, S].

    With `documents`, UNSEEN in all documents but the token's own, [B, 1, S, S]; padding looks at padding.
    """
    if documents is None:
        return torch.where(attention_mask, 0.0, UNSEEN)[:, None, None, :]
    return torch.where(documents[:, :, None] == documents[:, None, :], 0.0, UNSEEN)[:, None]


def window_bias(bias: Tensor, window: int) -> Tensor:
    """Return [B, 1, S, S]: `bias` [B, 1, 1 or S, S], and UNSEEN where keys are over window // 2 tokens away."""
    place = torch.arange(bias.shape[-1], device=bias.device)
    far = (place[:, None] - place[None, :]).abs() > window // 2
    return bias.masked_fill(far, UNSEEN)


def looks_at(documents: Tensor, window: int | None = None) -> Rule:
    """Return the rule of packed rows `documents` [B, S]: does the token at `query` of a row look at that at `key`?"""

    def rule(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = documents[row, query] == documents[row, key]
        return same if window is None else same & ((query - key).abs() <= window // 2)

    return rule
