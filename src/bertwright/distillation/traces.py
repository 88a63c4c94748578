"""Turns rows into all that a model computes of them on its way: hidden states, and what a block's attention sees."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertwright.errors import ModelError
from bertwright.model.encoder import Encoder
from bertwright.model.layers.attention import Attention
from bertwright.model.modernbert import ModernBlock
from bertwright.types import TokenRows


@dataclass(frozen=True)
class Trace:
    """What an encoder computes of rows.

    hidden  [B, S, H] each: the embeddings, then the hidden states after each block, as blocks hand them on
    last    [B, S, H] the last of them as a head reads it
    """

    hidden: tuple[Tensor, ...]
    last: Tensor


def trace(encoder: Encoder, batch: TokenRows) -> Trace:
    """Return what an encoder computes of a batch, which is all of it: no position is left out of the last block."""
    documents = getattr(batch, "documents", None)
    inputs = encoder.block_inputs(batch.attention_mask, documents)
    states: list[Tensor] = [encoder.embeddings(batch.input_ids, batch.token_type_ids, documents)]
    for block, others in zip(encoder.blocks, inputs, strict=True):
        states.append(block(states[-1], *others))
    return Trace(tuple(states), encoder.norm(states[-1]))


def queries_keys_values(encoder: Encoder, found: Trace, number: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values [B, A, S, H/A] of block `number`, from 1, computed again from what it read."""
    block, hidden = encoder.blocks[number - 1], found.hidden[number - 1]
    if isinstance(block, ModernBlock):
        hidden = block.attention_norm(hidden)
    attention = attention_of(block)
    query, key, value = attention.fused_projection(hidden, [attention.query, attention.key, attention.value])
    return query, key, value


def attention_of(block: nn.Module) -> Attention:
    """Return the attention of a block; raises ModelError where it has none of the usual kind."""
    attention = getattr(block, "attention", None)
    if not isinstance(attention, Attention):
        raise ModelError(
            f"relations and attention are not known of blocks such as {type(block).__name__}; "
            "give --relations 0 --attention 0"
        )
    return attention


def side_by_side(heads: Tensor) -> Tensor:
    """Return [B, S, H] from what the heads of a block hold, [B, A, S, H/A]."""
    return heads.transpose(1, 2).flatten(2)


def attention_scores(query: Tensor, key: Tensor) -> Tensor:
    """Return [B, A, S, S]: queries times keys, divided by the root of their width."""
    scores: Tensor = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
    return scores


def matched_layers(student: int, teacher: int) -> tuple[int, ...]:
    """Return the teacher's block, from 1, that each of the student's blocks stands for: spread evenly, the last last.

    >>> matched_layers(4, 6)
    (2, 3, 5, 6)
    """
    return tuple(-(-place * teacher // student) for place in range(1, student + 1))


def common_heads(first: int, second: int, *, most: int = 48) -> int:
    """Return the most heads, up to `most`, that divide both widths (48 are those of MiniLMv2).

    >>> common_heads(288, 384)
    48
    """
    return max(count for count in range(1, most + 1) if first % count == 0 and second % count == 0)


@torch.no_grad()
def frozen_trace(encoder: Encoder, batch: TokenRows) -> Trace:
    """Return the same of a teacher, which keeps nothing for a backward pass."""
    return trace(encoder, batch)
