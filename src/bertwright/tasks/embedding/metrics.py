"""Turns vectors of texts into how well they show what is alike: correlation with scores, and finding the right text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertwright.tasks.metrics import regression_figures

BLOCK = 1 << 24
"""Similarities held at once: 64 MB."""
WITHIN = 10
"""A text found later than this counts nothing towards the reciprocal rank."""


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors [N, H] at unit length; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    scaled: np.ndarray = vectors / np.maximum(lengths, 1e-12)
    return scaled


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosine [N] of each row of vectors [N, H] with the same row of others [N, H]."""
    products: np.ndarray = np.einsum("nh,nh->n", unit(first), unit(second))
    return products


def score_figures(scores: np.ndarray, similarity: np.ndarray) -> dict[str, float]:
    """Return spearman and pearson correlations of scores [N] with cosines [N], as STS benchmarks are reported."""
    figures = regression_figures(scores, similarity)
    return {name: figures[name] for name in ("spearman", "pearson")}


@dataclass(frozen=True)
class Ranks:
    """Where each of Q questions found its text.

    queries [Q] int64    which text was looked for with
    rank    [Q] int64    place of the first right text, from 1
    right   [Q] int64    the right text that came first
    best    [Q] int64    the wrong text that came first
    """

    queries: np.ndarray
    rank: np.ndarray
    right: np.ndarray
    best: np.ndarray


def rank_texts(vectors: np.ndarray, pairs: np.ndarray, others: np.ndarray) -> Ranks:
    """Look for the second text of each pair [N, 2] among all second texts and `others` [M], by cosine.

    `vectors` [U, H] are those of the texts that pairs and others number. A text is a query once, and each text it is
    paired with is right; itself it does not find. Where a wrong text is as near as the right one, it comes first.
    """
    pairs = np.unique(pairs, axis=0)
    queries, begins = np.unique(pairs[:, 0], return_index=True)
    known = np.unique(np.concatenate([pairs[:, 1], others]))
    column = np.searchsorted(known, pairs[:, 1])
    near, ends = unit(vectors), np.append(begins[1:], len(pairs))
    documents = near[known].T
    rank, right, best = (np.empty(len(queries), dtype=np.int64) for _ in range(3))
    step = max(1, BLOCK // len(known))
    for start in range(0, len(queries), step):
        some = slice(start, min(start + step, len(queries)))
        similarity = near[queries[some]] @ documents
        counts = ends[some] - begins[some]
        rows, places = np.repeat(np.arange(len(counts)), counts), column[begins[start] : ends[some][-1]]
        only = np.full_like(similarity, -np.inf)
        only[rows, places] = similarity[rows, places]
        right[some] = known[only.argmax(1)]
        similarity[rows, places] = -np.inf
        similarity[known[None, :] == queries[some][:, None]] = -np.inf
        rank[some] = 1 + (similarity >= only.max(1, keepdims=True)).sum(1)
        best[some] = known[similarity.argmax(1)]
    return Ranks(queries, rank, right, best)


def retrieval_figures(rank: np.ndarray) -> dict[str, float]:
    """Return mrr_at_10 (mean of 1 / rank, 0 past the tenth) and accuracy (it came first) of ranks [Q]."""
    reciprocal = np.where(rank <= WITHIN, 1.0 / rank, 0.0)
    return {"mrr_at_10": float(reciprocal.mean()), "accuracy": float((rank == 1).mean())}
