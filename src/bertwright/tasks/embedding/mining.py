"""Turns pairs of texts and their vectors into triples with hard negatives: near texts that are not its own."""

from __future__ import annotations

import numpy as np

from bertwright.tasks.embedding.metrics import BLOCK, unit


def mine_negatives(
    vectors: np.ndarray, pairs: np.ndarray, *, most: int, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return which of N pairs has a negative [M], in order, and which text that is [M]: up to `most` for each pair.

    `vectors` [U, H] are those of the texts that `pairs` [N, 2] number. The negatives of a first text are the second
    texts nearest to it, by cosine, but for those it is paired with, and those that are too near: above the cosine of
    the farthest text it is paired with, less `margin` times its size. Such ones often are positives that nobody has
    marked (Moreira et al., 2024, "NV-Retriever"; `relative_margin` in sentence-transformers).
    """
    anchors, owner = np.unique(pairs[:, 0], return_inverse=True)
    corpus, column = np.unique(pairs[:, 1], return_inverse=True)
    near, found = unit(vectors), np.full((len(anchors), most), -1, dtype=np.int64)
    documents, order = near[corpus].T, np.argsort(owner, kind="stable")
    ends = np.searchsorted(owner[order], np.arange(len(anchors)), side="right")
    step, kept = max(1, BLOCK // len(corpus)), min(most, len(corpus))
    for start in range(0, len(anchors), step):
        stop = min(start + step, len(anchors))
        similarity = near[anchors[start:stop]] @ documents
        rows = order[(0 if start == 0 else ends[start - 1]) : ends[stop - 1]]
        own = (owner[rows] - start, column[rows])
        farthest = np.full(stop - start, np.inf, dtype=similarity.dtype)
        np.minimum.at(farthest, own[0], similarity[own])
        similarity[own] = -np.inf
        similarity[similarity > (farthest - margin * np.abs(farthest))[:, None]] = -np.inf
        places = np.argpartition(-similarity, kept - 1, axis=1)[:, :kept]
        values = np.take_along_axis(similarity, places, axis=1)
        best = np.argsort(-values, axis=1, kind="stable")
        places, values = np.take_along_axis(places, best, axis=1), np.take_along_axis(values, best, axis=1)
        found[start:stop, :kept] = np.where(np.isfinite(values), corpus[places], -1)
    of_pairs = found[owner]
    at = np.nonzero(of_pairs >= 0)
    return at[0], of_pairs[at]
