"""Counts which words stand near which in the corpus, and turns the counts into vectors to start word embeddings from.

Words that keep the same company get close vectors before the first step, from text that a short run would never come
to read: a factorisation of pointwise mutual information (Levy and Goldberg, 2014, "Neural Word Embedding as Implicit
Matrix Factorization", with the settings of Levy, Goldberg and Dagan, 2015).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from bertwright.corpus.shards import Shards

MOST_TOKENS = 1 << 25
"""Tokens counted at most, from the front of the split."""
MOST_WORDS = 8192
"""Words counted, the most frequent ones: a table of 8,192 by 8,192 counts takes 0.27 GB."""
CLOSENESS = (12, 6, 4, 3)
"""What two tokens 1 to 4 places apart count: one part in their distance, in whole numbers, which add up exactly."""
SMOOTHING = 0.75
"""Exponent of how frequent a neighbour is, so that rare ones do not look like news."""
CHUNK = 1 << 22
"""Tokens counted at a time."""


def word_frequencies(shards: Shards, vocab_size: int) -> np.ndarray:
    """Return how often each token stands in the split, [V] int64."""
    counts = np.zeros(vocab_size, dtype=np.int64)
    for shard in shards.shards:
        counts += np.bincount(shard.tokens, minlength=vocab_size)
    return counts


def neighbour_vectors(
    shards: Shards, vocab_size: int, *, width: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return the ids [W] of the most frequent tokens and their vectors [W, width], float32, each of mean square one.

    W is at most 8,192 and at least `width`; tokens that never occur are left out. Draws from `generator` alone.
    """
    frequencies = word_frequencies(shards, vocab_size)
    common = np.argsort(-frequencies, kind="stable")[:MOST_WORDS]
    words = np.sort(common[frequencies[common] > 0])
    table = neighbour_counts(shards, words, vocab_size)
    return torch.from_numpy(words), _factors(table.float(), width, generator)


def neighbour_counts(shards: Shards, words: np.ndarray, vocab_size: int) -> Tensor:
    """Return [W, W] int32, symmetric: how close and how often each two of `words` [W] stand in the same document."""
    place = np.full(vocab_size, -1, dtype=np.int64)
    place[words] = np.arange(len(words))
    table = torch.zeros(len(words) ** 2, dtype=torch.int32)
    left = MOST_TOKENS
    for shard in shards.shards:
        document = np.repeat(np.arange(len(shard.token_offsets) - 1, dtype=np.int32), np.diff(shard.token_offsets))
        for start in range(0, min(left, len(shard.tokens)), CHUNK):
            part = slice(start, min(start + CHUNK, left))
            _count(place[shard.tokens[part]], document[part], table)
        left -= len(shard.tokens)
        if left <= 0:
            break
    square = table.view(len(words), len(words))
    return square + square.T


def _count(tokens: np.ndarray, document: np.ndarray, table: Tensor) -> None:
    """Add the pairs of a stretch of tokens [T] (-1: not counted) to the flat `table`, each once, in their order."""
    side = int(len(table) ** 0.5)
    for distance, weight in enumerate(CLOSENESS, start=1):
        first, second = tokens[:-distance], tokens[distance:]
        both = (first >= 0) & (second >= 0) & (document[:-distance] == document[distance:])
        pairs = torch.from_numpy(first[both] * side + second[both])
        table.scatter_add_(0, pairs, torch.full_like(pairs, weight, dtype=torch.int32))


def _factors(near: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Return [W, width]: factors of the positive pointwise mutual information of symmetric counts [W, W]."""
    own, others = near.sum(1), near.sum(0).pow(SMOOTHING)
    expected = own[:, None] * (others / others.sum())
    information = near.div_(expected.clamp_(min=1e-6)).log_().clamp_(min=0.0)
    left, strengths = leading(information, min(width + 32, len(near)), generator)
    vectors = torch.zeros(len(near), width)
    vectors[:, : left.shape[1]] = (left * strengths.sqrt())[:, :width]
    return vectors / vectors.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def leading(matrix: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return nearly the first left singular vectors [W, count] and singular values [count] of a matrix [W, W].

    Two rounds from drawn vectors (Halko, Martinsson and Tropp, 2011, "Finding Structure with Randomness", algorithms
    4.4 and 5.1): `torch.svd_lowrank`, to the bit, which knows no generator but the default one.
    """
    basis = torch.linalg.qr(matrix @ torch.randn(len(matrix), count, generator=generator)).Q
    for _ in range(2):
        basis = torch.linalg.qr(matrix.T @ basis).Q
        basis = torch.linalg.qr(matrix @ basis).Q
    left, strengths, _ = torch.linalg.svd(basis.T @ matrix, full_matrices=False)
    return basis @ left, strengths
