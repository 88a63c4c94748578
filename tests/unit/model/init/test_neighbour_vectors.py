"""Counts of neighbours against counting by hand, and vectors of words that keep the same company."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bertwright.corpus import cooccurrence
from bertwright.corpus.cooccurrence import count_neighbours
from bertwright.corpus.shards import Shards
from bertwright.model.init.neighbour_vectors import (
    CLOSENESS,
    _factors,
    leading,
    neighbour_vectors,
    symmetric_counts,
)

VOCAB = 40
ShardsOf = Callable[..., Shards]


def test_symmetric_counts_are_those_counted_by_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    """Within documents alone, over chunks; a pair across the edge of a chunk is the only thing left out."""
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, VOCAB, size) for size in (50, 7, 31, 2, 60)]
    expected = np.zeros((VOCAB, VOCAB), dtype=np.int64)
    for document in documents:
        for distance, weight in enumerate(CLOSENESS, start=1):
            for one, other in zip(document[:-distance], document[distance:], strict=True):
                expected[one, other] += weight
                expected[other, one] += weight
    shards = shards_of(tmp_path, documents)
    counts = count_neighbours(shards, VOCAB)
    expected = expected[np.ix_(counts.words, counts.words)]
    assert np.array_equal(symmetric_counts(counts).numpy(), expected)
    monkeypatch.setattr(cooccurrence, "CHUNK", 20)
    fewer = symmetric_counts(count_neighbours(shards, VOCAB)).numpy()
    assert (fewer <= expected).all()
    assert fewer.sum() > 0.7 * expected.sum()


def test_tables_of_distances_add_up_to_the_symmetric_counts(tmp_path: Path, shards_of: ShardsOf) -> None:
    rng = np.random.default_rng(5)
    counts = count_neighbours(shards_of(tmp_path, [rng.integers(0, VOCAB, size) for size in (90, 40, 70)]), VOCAB)
    expected = symmetric_counts(counts).numpy()
    for distance, weight in enumerate(CLOSENESS, start=1):
        table = counts.tables[distance].toarray()
        assert not np.array_equal(table, table.T)
        expected = expected - weight * (table + table.T)
    assert not expected.any()


def test_vectors_are_to_the_bit_those_of_the_table_that_was_counted_at_each_start(
    tmp_path: Path, shards_of: ShardsOf
) -> None:
    """The whole way of earlier versions: one symmetric table, counted pair by pair, and its factors."""
    rng = np.random.default_rng(6)
    documents = [rng.zipf(1.3, size) % VOCAB for size in (500, 300, 700)]
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    place = {word: index for index, word in enumerate(counts.words.tolist())}
    table = torch.zeros(len(place), len(place), dtype=torch.int32)
    for document in documents:
        for distance, weight in enumerate(CLOSENESS, start=1):
            for one, other in zip(document[:-distance].tolist(), document[distance:].tolist(), strict=True):
                table[place[one], place[other]] += weight
    generators = [torch.Generator().manual_seed(1) for _ in range(2)]
    words, vectors = neighbour_vectors(counts, width=16, generator=generators[0])
    assert words.tolist() == list(place)
    assert torch.equal(vectors, _factors((table + table.T).float(), 16, generators[1]))


def test_words_that_keep_the_same_company_are_close(tmp_path: Path, shards_of: ShardsOf) -> None:
    """Tokens k and k + 20 stand in the same places of ten kinds of sentences; token 39 never occurs."""
    rng = np.random.default_rng(4)
    kinds = rng.integers(0, 9, 4000)
    sentences = np.stack([2 * kinds, 2 * kinds + 1], axis=1) + 20 * rng.integers(0, 2, (4000, 2))
    documents = np.array_split(sentences.reshape(-1), 400)
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    words, vectors = neighbour_vectors(counts, width=16, generator=torch.Generator())
    assert words.tolist() == [*range(18), *range(20, 38)]
    torch.testing.assert_close(vectors.square().mean(1), torch.ones(len(words)))
    close = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    twins = close.diagonal(offset=18)
    others = close[:18, 18:][~torch.eye(18, dtype=torch.bool)]
    assert twins.min() > others.max()


def test_leading_vectors_are_those_of_torch_up_to_signs() -> None:
    """From the same state of a generator, which is left where torch leaves its own."""
    matrix = torch.rand(300, 300, generator=torch.Generator().manual_seed(1)).log().neg()
    state = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    theirs, strengths, _ = torch.svd_lowrank(matrix, q=40, niter=2)
    ours, ours_strengths = leading(matrix, 40, state)
    assert torch.allclose(ours_strengths, strengths, rtol=1e-5)
    alike = (ours * theirs).sum(0)
    assert torch.allclose(ours * alike.sign(), theirs, atol=1e-3)
    assert torch.equal(state.get_state(), torch.get_rng_state())
