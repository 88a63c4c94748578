"""Turns a BERT just drawn into one that predicts masked words and next sentences before its first step.

What is put where: layout.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import Encoder
from bertwright.model.heads import MaskedTokenHead
from bertwright.model.init.layout import MARKER, CorpusStatistics, Layout, layout_of, speeds, start_embeddings
from bertwright.model.init.neighbour_maps import neighbour_maps
from bertwright.model.init.segment_averages import compare_segments, masked_states
from bertwright.model.layers.attention import Attention
from bertwright.types import MaskedBatch

OFFSETS = (-1, 1, -2, 2, -3, 3, -4, 4)
"""Distances of the neighbours that heads attend to, nearest first; counts go no further."""
SHARPNESS = 9.0
"""Size of the scores of heads that attend to a neighbour."""
APART = 4.0
"""How strongly [CLS] attends to itself where others attend to neighbours."""
LINEAR = 3.0
"""Bias of the masked-token head: around it GELU is nearly a straight line, and LayerNorm takes the bias out again."""
MEASURED = 2048
"""Masked tokens, at most, that gains are tried on."""
MOST_SCORES = 1 << 25
"""Scores of them, at most: each has one a word of the vocabulary."""
GAINS = 14
"""Gains that are tried at most, from 1 down, each 0.7 times the one before."""


def offsets_by_block(config: ModelConfig, *, next_sentence: bool) -> list[list[int]]:
    """Return the offsets that the heads of the first block attend to, and those of the second where any are left.

    With `next_sentence`, the first two heads of the first block are not for offsets.
    """
    first = config.heads - (2 if next_sentence and can_compare(config) else 0)
    blocks = [list(OFFSETS[:first]), list(OFFSETS[first : first + config.heads])]
    return blocks[: min(2, config.layers)]


@torch.no_grad()
def start_from_corpus(
    model: BertForPreTraining,
    corpus: CorpusStatistics,
    *,
    special_ids: Sequence[int],
    cls: int,
    next_sentence: bool,
    examples: Sequence[MaskedBatch],
) -> None:
    """Put the weights of a model just drawn in place; what is not set stays as drawn.

    On `examples`, masked rows of the corpus (of pairs with `next_sentence`), three things are measured that depend on
    it: the mean of an average of words, the spread of the comparison, and how sharp the masked-token head should be.
    Draws nothing. No published source; neighbours as in a log-bilinear model (Mnih and Hinton, 2007), fitted in one
    step.
    """
    layout, training = layout_of(model.config), model.training
    pairs = next_sentence and can_compare(model.config)
    model.eval()  # what is measured must not depend on dropout
    start_embeddings(model, corpus, layout, special_ids)
    model.embeddings.words.weight[cls, layout.marker] = MARKER
    _silence(model)
    blocks = offsets_by_block(model.config, next_sentence=next_sentence)
    maps = neighbour_maps(corpus, [offset for block in blocks for offset in block], rank=rank_of(model.config))
    for number, offsets in enumerate(blocks):
        first = 2 if pairs and number == 0 else 0
        for head, offset in enumerate(offsets, start=first):
            look_at_offset(model.block(number).attention, head, offset, layout)
            if first:
                _spare_first_token(model.block(number).attention, head, layout)
            copy_through(model.block(number).attention, head, *maps[offset])
    _start_token_head(model.mlm_head, corpus.frequencies)
    model.mlm_head.dense.weight[layout.filler, layout.filler] -= 1.0
    if pairs:
        compare_segments(model, layout, examples, blocks=len(blocks))
    sharpen(model, examples, blocks=len(blocks))
    model.train(training)


def can_compare(config: ModelConfig) -> bool:
    """Say whether two heads can be spared for next sentences, of a size that holds an average of words."""
    return config.heads > 1 and config.heads * min(config.layers, 2) >= 4 and config.hidden_size // config.heads >= 8


def rank_of(config: ModelConfig) -> int:
    """Return how many directions of a word's vector one head can carry."""
    return min(config.hidden_size // config.heads, layout_of(config).words)


def _silence(model: BertForPreTraining) -> None:
    """Let no block add anything yet, but keep what was drawn in queries, keys, values and first matrices."""
    for block in (model.block(number) for number in range(model.config.layers)):
        block.outer.weight.zero_()
        block.attention.output.weight.zero_()


@torch.no_grad()
def look_at_offset(attention: Attention, head: int, offset: int, layout: Layout) -> None:
    """Have a head attend to the token `offset` positions further, on top of what was drawn.

    sin and cos of (p + offset) are a rotation of those of p; the score of position q is then the sum over speeds w of
    cos(w (p + offset - q)), which is largest where q = p + offset.
    """
    size = attention.query.out_features // attention.heads
    pairs = min(size - 2, layout.positions) // 2
    sharp = math.sqrt(SHARPNESS * math.sqrt(size) / pairs)  # so that scores are the same for heads of every size
    angles = speeds(layout.positions // 2)[:pairs] * offset
    sine, cosine = 2 * torch.arange(pairs), 2 * torch.arange(pairs) + 1
    turned, plain = torch.zeros(2 * pairs, layout.positions), torch.zeros(2 * pairs, layout.positions)
    turned[sine, sine] = turned[cosine, cosine] = angles.cos()
    turned[sine, cosine], turned[cosine, sine] = angles.sin(), -angles.sin()
    plain[sine, sine] = plain[cosine, cosine] = 1.0
    rows, device = slice(head * size, head * size + 2 * pairs), attention.query.weight.device
    attention.query.weight[rows, layout.where] += turned.to(device) * sharp
    attention.key.weight[rows, layout.where] += plain.to(device) * sharp


def _spare_first_token(attention: Attention, head: int, layout: Layout) -> None:
    """Have [CLS] attend to itself in a head by which others find neighbours: it gathers segments, not neighbours."""
    size = attention.query.out_features // attention.heads
    unit = (head + 1) * size - 1
    for layer in (attention.query, attention.key):
        layer.weight[unit] = 0
        layer.weight[unit, layout.marker] = APART * (size / 64) ** 0.25


def copy_through(attention: Attention, head: int, back: Tensor, into: Tensor) -> None:
    """Have a head carry what it attends to: `into` [R, W] as its value, `back` [W, R] as its output."""
    size = attention.query.out_features // attention.heads
    rank, words = into.shape
    rows, device = slice(head * size, head * size + rank), attention.value.weight.device
    attention.value.weight[rows, :words] += into.to(device)
    attention.output.weight[:words, rows] += back.to(device)


def _start_token_head(head: MaskedTokenHead, frequencies: np.ndarray) -> None:
    """Pass hidden states through to the vocabulary, and begin with how frequent each word is."""
    head.dense.weight.add_(torch.eye(len(head.dense.weight), device=head.dense.weight.device))
    head.dense.bias.fill_(LINEAR)
    head.bias.copy_(log_frequencies(frequencies))


def log_frequencies(frequencies: np.ndarray) -> Tensor:
    """Return [V]: the log of each token's fraction of the text, each counted half a time more."""
    return torch.from_numpy(np.log((frequencies + 0.5) / (frequencies + 0.5).sum()))


def sharpen(model: Encoder, examples: Sequence[MaskedBatch], *, blocks: int) -> None:
    """Set the gain of the masked-token head's LayerNorm to the one of a row of values that predicts best.

    Scores without the bias of each word are in proportion to the gain, so the vocabulary is computed once. Blocks past
    the first `blocks` change nothing yet.
    """
    states, labels = zip(*(masked_states(model, example, blocks=blocks) for example in examples[:2]), strict=True)
    head, words = model.mlm_head, model.output_matrix
    count = min(MEASURED, max(1, MOST_SCORES // len(words)))
    hidden, answers = torch.cat(states)[:count], torch.cat(labels)[:count].to(words.device)
    head.norm.weight.fill_(1.0)
    scores = functional.linear(head.transform(hidden), words)
    best, least = 1.0, math.inf
    for gain in (2.0 ** (-step / 2) for step in range(GAINS)):
        loss = float(functional.cross_entropy(scores * gain + head.bias, answers))
        if not loss <= least:  # the loss is convex in the gain: it only rises from here on (or there is no text)
            break
        best, least = gain, loss
    head.norm.weight.fill_(best)
