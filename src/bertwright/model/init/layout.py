"""Turns counts of which words stand near which into first weights of a BERT that is a language model before step one.

A 2018 BERT drawn from noise stays for thousands of steps at the unigram entropy. Started here, a masked word is scored
by its neighbours at once, and [CLS] knows how alike both segments are. No weight is frozen and no layer is changed: the
model is a stock BERT, and training goes on from a better place. The width H is divided into

    words      W = H - P - 4   what a word means: factors of mutual information (see neighbour_vectors.py)
    segment    1               + in segment A, - in segment B
    marker     1               of [CLS]; after the first block it holds how alike A and B are
    rarity     1               of a word, standardised negative log frequency
    filler     1               of special tokens, which mean nothing, so that after LayerNorm their positions are as
                               large as those of words; the masked-token head does not pass it on
    positions  P               sines and cosines of geometric frequencies, alone

First block, and the second where it has too few heads: a head a neighbour. Its query is its position turned by the
offset, its key the position, its value and output the map from the neighbour's vector to the masked word's (below). Two
heads of the first block are kept for next sentences: in them [CLS] averages A and B, rare words first, and the inner
layer of the block compares the averages; other tokens attend to [CLS] there, whose value is zero. Everything else adds
nothing: the second matrix of every inner layer and the attention output of later blocks are zero, and a post-LayerNorm
block is then the identity. The masked-token head passes its input through, and its bias is the log of word frequencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertwright.model.bert import BertForPreTraining
from bertwright.model.config import ModelConfig
from bertwright.model.init.noise import waves

WORD_RMS = 0.2
"""Root mean square of word vectors."""
POSITION_RMS = 0.3
"""Root mean square of positions, were they a quarter of the width."""
FREQUENCIES = (1.5, 0.015)
"""Radians a position of the fastest and (nearly) the slowest sine."""
SEGMENT, MARKER, RARITY = 0.3, 0.75, 0.1
"""Sizes of the three single dimensions; rarity is a standard deviation."""
RARE = 1e-4
"""Fraction of the tokens below which words count as equally rare."""


@dataclass(frozen=True)
class CorpusStatistics:
    """What of a corpus the weights start from.

    words        [N] int64 ids of the counted words
    vectors      [N, W] float32 their vectors, each of mean square one; W is `Layout.words`
    frequencies  [V] int64 how often each token occurs
    tables       by distance d: [N, N] sparse counts; [i, j] is how often words[j] stands d tokens after words[i]
    """

    words: Tensor
    vectors: Tensor
    frequencies: np.ndarray
    tables: Mapping[int, Any]


@dataclass(frozen=True)
class Layout:
    """Which dimensions of the hidden states hold what; see the head of this file."""

    width: int
    positions: int

    @property
    def words(self) -> int:
        """Dimensions of words: 0 to W - 1."""
        return self.width - self.positions - 4

    @property
    def segment(self) -> int:
        """The dimension of the segment; those of marker and rarity follow."""
        return self.words

    @property
    def marker(self) -> int:
        """The dimension that marks [CLS]."""
        return self.words + 1

    @property
    def rarity(self) -> int:
        """The dimension of how rare a word is."""
        return self.words + 2

    @property
    def filler(self) -> int:
        """The dimension that makes special tokens as long as words."""
        return self.words + 3

    @property
    def where(self) -> slice:
        """The dimensions of positions."""
        return slice(self.words + 4, self.width)


def layout_of(config: ModelConfig) -> Layout:
    """Return how the width of a model is divided: 64 dimensions for positions, or a quarter of a narrow model.

    >>> from bertwright.model.build import named_size
    >>> layout_of(named_size("mini", vocab_size=8192)).words
    188
    """
    return Layout(config.hidden_size, positions=min(64, config.hidden_size // 8 * 2))


@torch.no_grad()
def start_embeddings(
    model: BertForPreTraining, corpus: CorpusStatistics, layout: Layout, special_ids: Sequence[int]
) -> None:
    """Words from their vectors, others as drawn; positions as sines; segments a sign; special tokens nothing."""
    words, positions = model.embeddings.words.weight, model.embeddings.positions.weight
    device, count = words.device, layout.words
    words[:, count:] = 0
    words[corpus.words.to(device), :count] = (corpus.vectors * WORD_RMS).to(device)
    rarity = rarities(corpus.frequencies)
    words[:, layout.rarity] = (rarity * RARITY).to(device)
    special = torch.tensor(special_ids, device=device)
    words[special] = 0
    words[special, layout.filler] = WORD_RMS * math.sqrt(count)
    words[special, layout.rarity] = 2 * RARITY * float(rarity.min())
    positions.zero_()
    rms = POSITION_RMS * math.sqrt(layout.width / 4 / layout.positions)
    positions[:, layout.where] = waves(len(positions), speeds(layout.positions // 2), rms=rms).to(device)
    types = model.embeddings.types.weight
    types.zero_()
    types[0, layout.segment] = SEGMENT
    types[1:, layout.segment] = -SEGMENT


def rarities(frequencies: np.ndarray) -> Tensor:
    """Return [V] float32: minus the log of each token's fraction, of mean zero and variance one over the text."""
    fraction = torch.from_numpy(frequencies.astype(np.float64))
    fraction = fraction / fraction.sum().clamp(min=1)
    rare = -torch.log(fraction + RARE)
    # Mean and variance over the text, in which a word counts as often as it occurs.
    rare = rare - (fraction * rare).sum()
    return (rare / (fraction * rare.square()).sum().sqrt().clamp(min=1e-6)).float()


def speeds(count: int) -> Tensor:
    """Return [count] radians a position, falling geometrically."""
    fastest, slowest = FREQUENCIES
    return fastest * (slowest / fastest) ** (torch.arange(count) / count)
