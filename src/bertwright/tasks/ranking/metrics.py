"""Turns scores of passages into how well their order answers each query: MRR@10 and NDCG@10."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WITHIN = 10
"""Passages that are looked at: those further down count nothing."""


@dataclass(frozen=True)
class QueryRanks:
    """How each of Q queries was answered that has a relevant passage and another, less relevant one to tell it from.

    queries  [Q] int64    their numbers
    rank     [Q] int64    place of the first relevant passage, from 1; behind every irrelevant one of the same score
    ndcg     [Q] float64  normalised discounted cumulative gain of the first ten, its gains the grades themselves
    left_out int          queries whose passages all have one grade: no order of them is better than another
    """

    queries: np.ndarray
    rank: np.ndarray
    ndcg: np.ndarray
    left_out: int

    def figures(self) -> dict[str, float]:
        """Return ndcg_at_10 and mrr_at_10 (1 / place of the first relevant passage, 0 past the tenth), their means."""
        if not len(self.queries):
            return {"ndcg_at_10": 0.0, "mrr_at_10": 0.0}
        return {"ndcg_at_10": float(self.ndcg.mean()), "mrr_at_10": float(self.reciprocal.mean())}

    @property
    def reciprocal(self) -> np.ndarray:
        """1 / rank [Q], 0 past the tenth place."""
        return np.where(self.rank <= WITHIN, 1.0 / self.rank, 0.0)


def rank_passages(scores: np.ndarray, grades: np.ndarray, queries: np.ndarray) -> QueryRanks:
    """Return how scores [N] order passages of grades [N], each of the query with its number in `queries` [N].

    NDCG is that of scikit-learn (Jarvelin and Kekalainen, 2002), the mean over all orders where scores are equal.
    """
    from sklearn.metrics import ndcg_score

    order = np.argsort(queries, kind="stable")
    numbers, begins, counts = np.unique(queries[order], return_index=True, return_counts=True)
    scores, grades = scores[order].astype(np.float64), grades[order].astype(np.float64)
    relevant = grades > 0
    usable = np.maximum.reduceat(grades, begins) > np.minimum.reduceat(grades, begins)
    best = np.maximum.reduceat(np.where(relevant, scores, -np.inf), begins)
    ahead = ~relevant & (scores >= np.repeat(best, counts))
    rank = 1 + np.add.reduceat(ahead.astype(np.int64), begins)
    ndcg = np.zeros(len(numbers))
    for place in np.flatnonzero(usable).tolist():
        here = slice(begins[place], begins[place] + counts[place])
        ndcg[place] = ndcg_score(grades[None, here], scores[None, here], k=WITHIN)
    return QueryRanks(numbers[usable], rank[usable], ndcg[usable], int(np.count_nonzero(~usable)))
