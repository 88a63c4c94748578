"""Turns counts of which words stand near which in the corpus into vectors to start word embeddings from.

Words that keep the same company get close vectors before the first step, from text that a short run would never come
to read: a factorisation of pointwise mutual information (Levy and Goldberg, 2014, "Neural Word Embedding as Implicit
Matrix Factorization", with the settings of Levy, Goldberg and Dagan, 2015).
"""

from __future__ import annotations

import torch
from torch import Tensor

from bertwright.corpus.cooccurrence import NeighbourCounts

CLOSENESS = (12, 6, 4, 3)
"""What two tokens 1 to 4 places apart count: in inverse proportion to their distance, in whole numbers, which add up
exactly."""
SMOOTHING = 0.75
"""Exponent of how frequent a neighbour is, so that rare ones do not look like news."""


def neighbour_vectors(counts: NeighbourCounts, *, width: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the ids [W] of the counted words and their vectors [W, width], float32, each of mean square one.

    W is at most 8,192; words that never occur are not among them. Draws from `generator` alone.
    """
    return torch.from_numpy(counts.words), _factors(symmetric_counts(counts).float(), width, generator)


def symmetric_counts(counts: NeighbourCounts) -> Tensor:
    """Return [W, W] int32, symmetric: how close and how often each two words stand in the same document.

    The sum over distances d of CLOSENESS[d - 1] * (N_d + N_d^T), where N_d are the directed counts.
    """
    table = torch.zeros(len(counts.words) ** 2, dtype=torch.int32)
    for distance, weight in enumerate(CLOSENESS, start=1):
        found = counts.distances[distance]
        table.index_add_(0, torch.from_numpy(found.keys), torch.from_numpy(found.counts), alpha=weight)
    square = table.view(len(counts.words), len(counts.words))
    return square + square.T


def _factors(near: Tensor, width: int, generator: torch.Generator) -> Tensor:
    """Return [W, width]: factors of the positive pointwise mutual information of symmetric counts [W, W]."""
    # Mutual information is log(P(word, neighbour) / (P(word) P(neighbour))). Of counts that is log(count / expected)
    # with expected = count of the word x fraction of the neighbour, smoothed; below zero, and of pairs that
    # never occur, it is taken as zero (its positive part).
    words, others = near.sum(1), near.sum(0).pow(SMOOTHING)
    expected = words[:, None] * (others / others.sum())
    information = near.div_(expected.clamp_(min=1e-6)).log_().clamp_(min=0.0)
    left, strengths = leading(information, min(width + 32, len(near)), generator)
    vectors = torch.zeros(len(near), width)  # of few words there are fewer directions than dimensions
    vectors[:, : left.shape[1]] = (left * strengths.sqrt())[:, :width]
    return vectors / vectors.square().mean(1, keepdim=True).sqrt().clamp(min=1e-6)


def leading(matrix: Tensor, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return nearly the first left singular vectors [W, count] and singular values [count] of a matrix [W, W].

    Two rounds from drawn vectors (Halko, Martinsson and Tropp, 2011, "Finding Structure with Randomness", algorithms
    4.4 and 5.1): what `torch.svd_lowrank` returns, which knows no generator but the default one, up to signs. The last
    step, on [count, W], takes eigenvectors of a product in float64: a tenth of the time of singular vectors.
    """
    # Powers of the matrix turn drawn vectors towards its leading ones; each is made orthonormal, or all would become
    # the first. What is left is small: [count, W].
    basis = torch.linalg.qr(matrix @ torch.randn(len(matrix), count, generator=generator)).Q
    for _ in range(2):
        basis = torch.linalg.qr(matrix.T @ basis).Q
        basis = torch.linalg.qr(matrix @ basis).Q
    small = (basis.T @ matrix).double()
    squares, left = torch.linalg.eigh(small @ small.T)
    return basis @ left.flip(1).float(), squares.flip(0).clamp(min=0).sqrt().float()
