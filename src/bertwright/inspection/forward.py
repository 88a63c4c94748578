"""Turns rows into all that an encoder computes on its way: hidden states after each block, and attention weights.

What each layer alone would predict, how alike positions are and how far heads look is computed from these.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.errors import InputError
from bertwright.model.encoder import LONG, Encoder
from bertwright.model.layers.attention import Attention
from bertwright.types import TokenRows

REACH = 4
"""Positions before and after a token that `by_distance` counts one by one."""
DISTANCES = ("special", "before", *(str(step) for step in range(-REACH, REACH + 1)), "after")
"""What the numbers of `by_distance` are about: special tokens, farther before, each distance, farther after."""


@dataclass(frozen=True)
class Look:
    """What an encoder computes of rows: `hidden_states` and `attentions` of transformers.

    hidden     L + 1 tensors [B, S, H]: the embeddings, then the states after each block, the last as heads read them
    attention  L tensors [B, A, S, S]: how much each token (third axis) attends to each other
    """

    hidden: tuple[Tensor, ...]
    attention: tuple[Tensor, ...]


@torch.no_grad()
def look(encoder: Encoder, rows: TokenRows) -> Look:
    """Return what an encoder in evaluation mode computes of rows; raises InputError where they are too long to see.

    Not for two threads at once: each attention has one observer.
    """
    if rows.longest > LONG:
        raise InputError(f"attention is shown of rows of up to {LONG:,} tokens, not {rows.longest:,}; shorten the text")
    inputs = encoder.block_inputs(rows.attention_mask, None)
    hidden: list[Tensor] = [encoder.embeddings(rows.input_ids, rows.token_type_ids)]
    with observed(encoder) as attention:
        for block, others in zip(encoder.blocks, inputs, strict=True):
            hidden.append(block(hidden[-1], *others))
    hidden[-1] = encoder.norm(hidden[-1])
    return Look(tuple(hidden), tuple(attention))


@contextmanager
def observed(encoder: Encoder) -> Iterator[list[Tensor]]:
    """Yield a list that the attention weights of each block are added to, in the order of the blocks."""
    seen: list[Tensor] = []
    layers = [one for one in encoder.blocks.modules() if isinstance(one, Attention)]
    for layer in layers:
        layer.observe = seen.append
    try:
        yield seen
    finally:
        for layer in layers:
            layer.observe = None


@torch.no_grad()
def layer_logits(encoder: Encoder, found: Look, at: Tensor) -> Tensor:
    """Return logits [L + 1, B, M, V] of the vocabulary at positions [B, M], by the masked-token head on each layer.

    It was trained on the last layer alone: the others show how far the answer has come ("logit lens", nostalgebraist,
    2020). States that no LayerNorm has seen yet, as those of ModernBERT, pass through the last one first.
    """
    places = at.unsqueeze(-1).expand(-1, -1, found.hidden[0].shape[-1])
    states = [hidden.gather(1, places) for hidden in found.hidden]
    early = [encoder.norm(one) for one in states[:-1]]
    return encoder.mlm_logits(torch.stack([*early, states[-1]]))


def similarities(found: Look) -> Tensor:
    """Return [L + 1, B, S, S]: the cosine of the hidden states of any two positions of a row, layer by layer."""
    states = functional.normalize(torch.stack(found.hidden).float(), dim=-1)
    return states @ states.transpose(-1, -2)


def by_distance(attention: Tensor, special: Tensor) -> Tensor:
    """Return [..., len(DISTANCES)]: how far heads look, from weights [..., S, S] and which of S tokens are special.

    Each number is the share of attention that ordinary tokens pay to special ones, or to ordinary ones so many
    positions after them (before, where negative), mean over the tokens; they add up to 1. NaN where all are special.
    """
    length = len(special)
    steps = torch.arange(length) - torch.arange(length)[:, None]
    kind = steps.clamp(-REACH - 1, REACH + 1) + REACH + 2
    kind = kind.masked_fill(special, 0)
    share = functional.one_hot(kind, len(DISTANCES)).to(attention)  # [S, S, kinds]
    of_each = torch.einsum("...qk,qkd->...qd", attention, share)
    return of_each[..., ~special, :].mean(-2)
