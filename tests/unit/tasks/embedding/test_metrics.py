"""Finding the right text: ranks against a plain computation, also in blocks, and no credit for ties."""

from __future__ import annotations

import numpy as np
import pytest

from bertwright.tasks.embedding import metrics as similarity
from bertwright.tasks.embedding.metrics import cosines, rank_texts, retrieval_figures


def plain_ranks(vectors: np.ndarray, pairs: np.ndarray, others: np.ndarray) -> dict[int, int]:
    near = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    known = set(pairs[:, 1].tolist()) | set(others.tolist())
    ranks = {}
    for query in set(pairs[:, 0].tolist()):
        right = set(pairs[pairs[:, 0] == query, 1].tolist())
        best = max(float(near[query] @ near[text]) for text in right)
        wrong = known - right - {query}
        ranks[query] = 1 + sum(float(near[query] @ near[text]) >= best for text in wrong)
    return ranks


def test_ranks_are_those_of_a_plain_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 4))
    pairs = random.integers(60, size=(80, 2))
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    others = random.integers(60, size=10)
    expected = plain_ranks(vectors, pairs, others)
    found = rank_texts(vectors, pairs, others)
    assert dict(zip(found.queries.tolist(), found.rank.tolist(), strict=True)) == expected
    assert all([query, right] in pairs.tolist() for query, right in zip(found.queries, found.right, strict=True))
    assert not any([query, best] in pairs.tolist() for query, best in zip(found.queries, found.best, strict=True))
    monkeypatch.setattr(similarity, "BLOCK", 200)
    in_blocks = rank_texts(vectors, pairs, others)
    np.testing.assert_array_equal(in_blocks.rank, found.rank)
    np.testing.assert_array_equal(in_blocks.best, found.best)
    reciprocal = [1 / rank if rank <= 10 else 0 for rank in expected.values()]
    assert retrieval_figures(found.rank)["mrr_at_10"] == pytest.approx(np.mean(reciprocal))
    assert retrieval_figures(found.rank)["accuracy"] == pytest.approx(
        np.mean([rank == 1 for rank in expected.values()])
    )


def test_vectors_that_are_all_the_same_find_nothing() -> None:
    pairs = np.array([[0, 3], [1, 4], [2, 5]])
    found = rank_texts(np.ones((6, 2)), pairs, np.array([], dtype=np.int64))
    assert found.rank.tolist() == [3, 3, 3]
    assert retrieval_figures(found.rank)["accuracy"] == 0


def test_cosines_of_zeros_are_zero() -> None:
    assert cosines(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([[4.0, 3.0], [1.0, 0.0]])).tolist() == [0.96, 0.0]
