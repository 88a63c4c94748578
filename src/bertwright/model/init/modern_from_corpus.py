"""Turns a ModernBERT just drawn into one that predicts masked words before its first step, as from_corpus.py does BERT.

ModernBERT has no positions to add and no biases; two dimensions of the width H stand in for both:

    words     W = H - 2   what a word means, as in layout.py
    constant  1           the same for every token: queries and keys made of it see distances alone, as they are rotated
    filler    1           of special tokens, which mean nothing, so that after LayerNorm their constant is that of words

A query of angle w o and a key of angle zero in the plane of rotary speed w score cos(w (distance - o)). The constant is
also the bias of the masked-token head. Nothing is added by inner layers and later blocks yet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from bertwright.model.config import ModernConfig
from bertwright.model.init.from_corpus import LINEAR, OFFSETS, copy_through, log_frequencies, sharpen
from bertwright.model.init.layout import WORD_RMS, CorpusStatistics
from bertwright.model.init.neighbour_maps import neighbour_maps
from bertwright.model.init.segment_averages import masked_states
from bertwright.model.layers.attention import Attention, rotary_speeds
from bertwright.model.modernbert import ModernBlock, ModernForMaskedLM
from bertwright.types import MaskedBatch

CONSTANT = 1.0
"""Size of the constant in the embeddings; words have a root mean square of 0.2 in each of their dimensions."""
SLOWEST = 0.01
"""Radians a position of the slowest rotary speed by which heads find neighbours."""
DROP = 4.0
"""What a token one position off scores less, before the softmax."""


@dataclass(frozen=True)
class ModernLayout:
    """Which dimensions of the hidden states hold what; see the head of this file."""

    width: int

    @property
    def words(self) -> int:
        """Dimensions of words: 0 to W - 1."""
        return self.width - 2

    @property
    def constant(self) -> int:
        """The dimension that is the same for every token."""
        return self.width - 2

    @property
    def filler(self) -> int:
        """The dimension that makes special tokens as long as words."""
        return self.width - 1


@torch.no_grad()
def start_modern_from_corpus(
    model: ModernForMaskedLM, corpus: CorpusStatistics, *, special_ids: Sequence[int], examples: Sequence[MaskedBatch]
) -> None:
    """Put the weights of a model just drawn in place; what is not set stays as drawn.

    On `examples`, masked rows of the corpus, the level of the constant in each block is measured, and how sharp the
    masked-token head should be. Draws nothing.
    """
    layout, training = ModernLayout(model.config.hidden_size), model.training
    model.eval()  # what is measured must not depend on dropout
    _start_embeddings(model, corpus, layout, special_ids)
    for block in (block_of(model, number) for number in range(model.config.layers)):
        block.mlp.outer.weight.zero_()
        block.attention.output.weight.zero_()
    heads, rank = model.config.heads, min(model.config.hidden_size // model.config.heads, layout.words)
    blocks = [OFFSETS[:heads], OFFSETS[heads : 2 * heads]][: min(2, model.config.layers)]
    maps = neighbour_maps(corpus, [offset for block in blocks for offset in block], rank=rank)
    for number, offsets in enumerate(blocks):
        attention, level = block_of(model, number).attention, _level(model, number, layout, examples)
        for head, offset in enumerate(offsets):
            _look_at_offset(attention, head, offset, layout.constant, speeds_of(model.config, number), level=level)
            copy_through(attention, head, *maps[offset])
    _start_token_head(model, corpus, layout, examples)
    sharpen(model, examples, blocks=len(blocks))
    model.train(training)


def block_of(model: ModernForMaskedLM, number: int) -> ModernBlock:
    """Return block `number`, from 0."""
    block = model.blocks[number]
    assert isinstance(block, ModernBlock)
    return block


def _start_embeddings(
    model: ModernForMaskedLM, corpus: CorpusStatistics, layout: ModernLayout, special_ids: Sequence[int]
) -> None:
    """Words from their vectors, others as drawn; special tokens nothing but the constant and the filler."""
    weight, count = model.word_embeddings.weight, layout.words
    weight[corpus.words.to(weight.device), :count] = (corpus.vectors * WORD_RMS).to(weight.device)
    weight[:, layout.filler] = 0
    special = torch.tensor(special_ids, device=weight.device)
    weight[special] = 0
    weight[special, layout.filler] = WORD_RMS * math.sqrt(count)
    weight[:, layout.constant] = CONSTANT


def speeds_of(config: ModernConfig, block: int) -> torch.Tensor:
    """Return the radians a position by which each plane of a head turns in a block, [D / 2]."""
    theta = config.global_theta if config.is_global(block) else config.local_theta
    return rotary_speeds(config.hidden_size // config.heads, theta=theta)


def _level(model: ModernForMaskedLM, number: int, layout: ModernLayout, examples: Sequence[MaskedBatch]) -> float:
    """Return how large the constant is where the attention of a block reads it, over the tokens of some rows."""
    example = examples[0].to(model.word_embeddings.weight.device)
    hidden = model.hidden_states(example.input_ids, example.token_type_ids, example.attention_mask, layer=number)
    read = block_of(model, number).attention_norm(hidden) if number < model.config.layers else hidden
    return float(read[example.attention_mask][:, layout.constant].mean())


def _look_at_offset(
    attention: Attention, head: int, offset: int, constant: int, speeds: torch.Tensor, *, level: float
) -> None:
    """Have a head attend to the token `offset` positions further, on top of what was drawn.

    Its score is a sum of cosines of (distance - offset) times a speed, so the strength for a drop of DROP at one
    position off is DROP over the sum of 1 - cos(speed).
    """
    fast = speeds[speeds >= SLOWEST]
    size, half = 2 * len(speeds), len(speeds)
    strength = DROP * math.sqrt(size) / float((1 - fast.cos()).sum())
    amplitude = math.sqrt(strength) / level
    start, unit = head * size, torch.arange(len(fast))
    device = attention.query.weight.device
    attention.query.weight[start + unit, constant] += (amplitude * (fast * offset).cos()).to(device)
    attention.query.weight[start + half + unit, constant] += (amplitude * (fast * offset).sin()).to(device)
    attention.key.weight[start + unit, constant] += amplitude


def _start_token_head(
    model: ModernForMaskedLM, corpus: CorpusStatistics, layout: ModernLayout, examples: Sequence[MaskedBatch]
) -> None:
    """Pass hidden states through to the vocabulary, and begin with how frequent each word is."""
    head = model.mlm_head
    hidden, _ = masked_states(model, examples[0], blocks=model.config.layers)
    level = float(hidden[:, layout.constant].mean())
    straight = torch.eye(len(head.dense.weight))
    straight[layout.constant, layout.constant] = straight[layout.filler, layout.filler] = 0
    straight[:, layout.constant] += LINEAR / level
    head.dense.weight.add_(straight.to(head.dense.weight.device))
    head.bias.copy_(log_frequencies(corpus.frequencies))
