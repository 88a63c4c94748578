"""Turns the first block of a BERT into one in which [CLS] compares the averages of both segments.

So next sentences are predicted from the start. Topics alone set most random pairs apart: averages of word vectors, rare
words first, are alike in neighbouring text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from bertwright.model.bert import BertForPreTraining, Block
from bertwright.model.encoder import Encoder
from bertwright.model.init.layout import Layout
from bertwright.model.layers.attention import Attention
from bertwright.model.modernbert import ModernForMaskedLM
from bertwright.types import MaskedBatch

SHUT = 8.0
"""How far the units that compare are shut for other tokens than [CLS]."""
GATE, WEIGHING = 4.0, 2.7
"""How strongly [CLS] prefers the words of one segment, and how strongly rare words."""


def compare_segments(
    model: BertForPreTraining, layout: Layout, examples: Sequence[MaskedBatch], *, blocks: int
) -> None:
    """Have [CLS] average both segments in the first block, compare them, and score next sentences by that.

    Blocks past the first `blocks` change nothing yet.
    """
    block = model.block(0)
    size = model.config.hidden_size // model.config.heads
    count = min(size - 3, layout.words // 2, model.config.intermediate_size // 4)
    marker = _level_of_marker(model, examples, layout)
    for head, sign in ((0, 1.0), (1, -1.0)):
        _average_segment(block.attention, head, sign, count, layout, marker=marker)
    _centre_averages(model, count, layout, examples, marker=marker)
    hidden = block.attention_norm(_first_states(model, examples) + _attended(model, examples))
    _compare_averages(block, count, layout, marker=float(hidden[:, layout.marker].mean()))
    _score_pairs(model, layout, examples, blocks=blocks)


def _level_of_marker(model: BertForPreTraining, examples: Sequence[MaskedBatch], layout: Layout) -> float:
    """Return how large the marker of [CLS] is after the embeddings' LayerNorm."""
    first = _first_states(model, examples[:1])
    return float(first[:, layout.marker].mean())


def _first_states(model: BertForPreTraining, examples: Sequence[MaskedBatch]) -> Tensor:
    """Return the embeddings [B, H] of the first tokens of all examples."""
    device = model.word_embeddings.weight.device
    moved = [example.to(device) for example in examples]
    return torch.cat(
        [model.embeddings(example.input_ids[:, :1], example.token_type_ids[:, :1])[:, 0] for example in moved]
    )


def _average_segment(
    attention: Attention, head: int, sign: float, count: int, layout: Layout, *, marker: float
) -> None:
    """Have [CLS] gather the first `count` dimensions of the words of one segment in further dimensions.

    Three units of the head score: segment, rarity, and a gate by which all tokens but [CLS] attend to [CLS].
    """
    size = attention.query.out_features // attention.heads
    start, scale = head * size, math.sqrt(math.sqrt(size / 64))
    rows = slice(start, start + size)
    for layer in (attention.query, attention.key, attention.value):
        layer.weight[rows] = 0
    segment, rarity, gate = start + size - 1, start + size - 2, start + size - 3
    attention.query.weight[segment, layout.marker] = GATE * scale
    attention.key.weight[segment, layout.segment] = GATE * scale * sign
    attention.query.weight[rarity, layout.marker] = WEIGHING * scale
    attention.key.weight[rarity, layout.rarity] = WEIGHING * scale
    attention.query.bias[gate] = GATE * scale
    attention.query.weight[gate, layout.marker] = -GATE * scale / marker
    attention.key.weight[gate, layout.marker] = GATE * scale
    device = attention.value.weight.device
    attention.value.weight[start : start + count, :count] = torch.eye(count, device=device)
    attention.output.weight[head * count : (head + 1) * count, start : start + count] = torch.eye(count, device=device)


def _centre_averages(
    model: BertForPreTraining, count: int, layout: Layout, examples: Sequence[MaskedBatch], *, marker: float
) -> None:
    """Take what all averages have in common out of the values of words, but not of [CLS], whose value stays zero."""
    attention = model.block(0).attention
    size = attention.query.out_features // attention.heads
    found = _attended(model, examples)
    mean = (found[:, :count].mean(0) + found[:, count : 2 * count].mean(0)) / 2
    for start in (0, size):
        attention.value.bias[start : start + count] = -mean
        attention.value.weight[start : start + count, layout.marker] = mean / marker


def _attended(model: BertForPreTraining, examples: Sequence[MaskedBatch]) -> Tensor:
    """Return what the attention of the first block adds to the first token of each row, [B, H]."""
    device = model.word_embeddings.weight.device
    found = []
    for example in (example.to(device) for example in examples):
        hidden = model.embeddings(example.input_ids, example.token_type_ids)
        mask = model.build_mask(example.attention_mask, None)
        at = torch.zeros(len(hidden), 1, dtype=torch.int64, device=device)
        found.append(model.block(0).attention(hidden, mask, at=at)[:, 0])
    return torch.cat(found)


def _compare_averages(block: Block, count: int, layout: Layout, *, marker: float) -> None:
    """Add to the marker |a + b|^2 - |a - b|^2, four times the product of both averages, by four GELUs a dimension.

    GELU(x) + GELU(-x) = x erf(x / sqrt(2)) is even: near zero it is x^2 times a constant. A negative bias, which the
    marker of [CLS] makes up for (`marker` is its level), shuts the units for all other tokens.
    """
    plus, minus = torch.zeros(count, block.inner.in_features), torch.zeros(count, block.inner.in_features)
    unit = torch.arange(count)
    plus[unit, unit] = plus[unit, count + unit] = minus[unit, unit] = 1.0
    minus[unit, count + unit] = -1.0
    device = block.inner.weight.device
    block.inner.weight[: 4 * count] = torch.cat([plus, -plus, minus, -minus]).to(device)
    block.inner.bias[: 4 * count] = -SHUT
    block.inner.weight[: 4 * count, layout.marker] = SHUT / marker
    block.outer.weight[layout.marker, : 2 * count] = 1.0
    block.outer.weight[layout.marker, 2 * count : 4 * count] = -1.0


def _score_pairs(model: BertForPreTraining, layout: Layout, examples: Sequence[MaskedBatch], *, blocks: int) -> None:
    """Bring the comparison to a spread of one, and fit the pooler's first unit and the next-sentence head to it."""
    block, device = model.block(0), model.word_embeddings.weight.device
    hidden = block.attention_norm(_first_states(model, examples) + _attended(model, examples))
    compared = block.outer(functional.gelu(block.inner(hidden)))[:, layout.marker]
    spread = compared.std().clamp(min=1e-6)
    block.outer.weight[layout.marker] /= spread
    block.outer.bias[layout.marker] = -compared.mean() / spread
    last = torch.cat([_last_of_first(model, example, blocks)[:, layout.marker] for example in examples])
    labels = torch.cat([example.next_label for example in examples if example.next_label is not None]).to(device)
    follows, random = last[labels == 0], last[labels == 1]
    if not (len(follows) > 1 and len(random) > 1):
        return
    pooler, head = model.pooler.dense, model.nsp_head.dense
    slope = 0.5 / last.std().clamp(min=1e-6)
    pooler.weight[0] = 0
    pooler.weight[0, layout.marker] = slope
    pooler.bias[0] = -slope * last.mean()
    follows, random = torch.tanh(slope * (follows - last.mean())), torch.tanh(slope * (random - last.mean()))
    # Two normal classes of one variance: the log odds are a straight line (linear discriminant analysis).
    variance = ((follows.var() + random.var()) / 2).clamp(min=1e-6)
    weight = (follows.mean() - random.mean()) / variance
    centre = (follows.mean() + random.mean()) / 2
    head.weight[0, 0], head.weight[1, 0] = weight / 2, -weight / 2
    head.bias[0], head.bias[1] = -weight * centre / 2, weight * centre / 2


def _last_of_first(model: BertForPreTraining, example: MaskedBatch, blocks: int) -> Tensor:
    """Return the last hidden state of the first token of each row, [B, H]."""
    moved = example.to(model.word_embeddings.weight.device)
    hidden = model.hidden_states(moved.input_ids, moved.token_type_ids, moved.attention_mask, layer=blocks - 1)
    at = torch.zeros(len(hidden), 1, dtype=torch.int64, device=hidden.device)
    last: Tensor = model.block(blocks - 1)(hidden, model.build_mask(moved.attention_mask, None), at=at)
    return last[:, 0]


def masked_states(model: Encoder, example: MaskedBatch, *, blocks: int) -> tuple[Tensor, Tensor]:
    """Return the last hidden states [N, H] of the N masked tokens of an example, and their labels [N]."""
    used = example.masked_weights > 0
    rows = torch.arange(len(used))[:, None].expand_as(used)[used]
    hidden = last_states(model, example, blocks=blocks)
    return hidden[rows, example.masked_positions[used]], example.masked_labels[used]


def last_states(model: Encoder, example: MaskedBatch, *, blocks: int) -> Tensor:
    """Return the last hidden states [B, S, H] of an example; blocks past the first `blocks` change nothing yet."""
    moved = example.to(model.word_embeddings.weight.device)
    if isinstance(model, ModernForMaskedLM) or moved.documents is not None:  # ModernBERT has a LayerNorm after them
        return model.encode(moved.input_ids, moved.token_type_ids, moved.attention_mask, documents=moved.documents)
    return model.hidden_states(moved.input_ids, moved.token_type_ids, moved.attention_mask, layer=blocks)
