"""Turns counts of which words stand near which into maps from the vector of a neighbour to that of the word itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertwright.model.init.layout import WORD_RMS, CorpusStatistics

RIDGE = 0.1
"""Added to the regression from neighbours to words, in mean variances of a dimension."""
MASKED_FRACTION = 0.2
"""Fraction of the neighbours that the regression takes to be masked themselves."""


def neighbour_maps(corpus: CorpusStatistics, offsets: Sequence[int], *, rank: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Return for each offset (back [W, R], into [R, W]), whose product maps a neighbour's vector to the word's.

    A word w scores e_w . sum_o M_o e_(neighbour at o). Close to the unigram model, the M that predict best are, in one
    Newton step, S^-1 B G^-1: S the covariance of word vectors, B that of a word with its neighbours, G that of the
    neighbours; all follow from the counts. M_o is then cut to its R strongest directions, as the logits weigh them, and
    all are scaled alike, so that a map is as large as a rotation of R dimensions on average.
    """
    vectors = corpus.vectors.double().numpy() * WORD_RMS
    counted = corpus.frequencies[corpus.words.numpy()]
    fraction = counted / max(int(counted.sum()), 1)
    centred = vectors - fraction @ vectors
    of_words = (centred * fraction[:, None]).T @ centred
    with ThreadPoolExecutor() as threads:  # sparse products use one core each
        covariances = threads.map(lambda table: _covariance(table, centred), corpus.tables.values())
        near = dict(zip(corpus.tables, covariances, strict=True))

    def covariance(step: int) -> np.ndarray:
        """Return that of a word with the one `step` tokens further."""
        if step == 0:
            return np.asarray(of_words)
        found: np.ndarray = near.get(abs(step), np.zeros_like(of_words))
        return found if step > 0 else np.asarray(found.T)

    # A neighbour is read where it is not masked itself: with a chance of `kept`, and two of them with its square.
    kept, width = 1 - MASKED_FRACTION, len(of_words)
    ridge = (RIDGE * np.trace(of_words) / width + 1e-9) * np.eye(width)
    with_word = np.concatenate([kept * covariance(offset) for offset in offsets], axis=1)
    among = np.block(
        [
            [kept * (of_words + ridge) if a == b else kept**2 * covariance(b - a) for b in offsets]
            for a in offsets
        ]
    )  # fmt: skip
    maps = np.linalg.solve(of_words + ridge, np.linalg.solve(among, with_word.T).T)
    root = np.linalg.cholesky(of_words + ridge)
    found = {offset: _strongest(maps[:, n * width : (n + 1) * width], root, rank) for n, offset in enumerate(offsets)}
    size = math.sqrt(float(np.square(maps).sum()) / max(len(offsets), 1))
    scale = math.sqrt(math.sqrt(rank) / max(size, 1e-12))
    return {offset: (back * scale, into * scale) for offset, (back, into) in found.items()}


def _covariance(table: Any, centred: np.ndarray) -> np.ndarray:
    """Return the covariance [W, W] of the vectors of two words, given how often each two occur; zero where none do."""
    total = max(float(table.sum()), 1.0)
    first = np.asarray(table.sum(axis=1)).ravel() @ centred / total
    second = np.asarray(table.sum(axis=0)).ravel() @ centred / total
    return np.asarray(centred.T @ (table @ centred) / total - np.outer(first, second))


def _strongest(matrix: np.ndarray, root: np.ndarray, rank: int) -> tuple[Tensor, Tensor]:
    """Return factors [W, R] and [R, W] of a matrix, best where words have the covariance root root^T."""
    left, strengths, right = np.linalg.svd(root.T @ matrix @ root)
    even = np.sqrt(strengths[:rank])
    back = np.linalg.solve(root.T, left[:, :rank] * even)
    into = np.linalg.solve(root.T, (right[:rank].T * even)).T
    return torch.from_numpy(back).float(), torch.from_numpy(into).float()
