"""Counts of neighbours against counting by hand, and vectors of words that keep the same company."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.data import neighbours
from bertwright.data.neighbours import CLOSENESS, leading, neighbour_counts, neighbour_vectors

VOCAB = 40


def shards_of(folder: Path, documents: list[np.ndarray]) -> Shards:
    """Return two shards that hold the documents, in order."""
    shards = []
    for number, part in enumerate((documents[:2], documents[2:])):
        counts = np.array([len(document) for document in part], dtype=np.int64)
        tokens = np.concatenate(part).astype(np.uint16)
        block = DocumentBlock(
            tokens=tokens,
            token_counts=counts,
            sentence_ends=counts.astype(np.uint32),
            sentence_counts=np.ones(len(part), dtype=np.int64),
            word_starts=np.ones(len(tokens), dtype=bool),
        )
        write_shard(folder / f"train-{number:05d}.arrow", block)
        shards.append(Shard.open(folder / f"train-{number:05d}.arrow"))
    return Shards(shards, fingerprint="test")


def test_counts_are_those_counted_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within documents alone, over chunks; a pair across the edge of a chunk is the only thing left out."""
    rng = np.random.default_rng(3)
    documents = [rng.integers(0, VOCAB, size) for size in (50, 7, 31, 2, 60)]
    words = np.arange(0, VOCAB, 2)
    expected = np.zeros((len(words), len(words)), dtype=np.int64)
    for document in documents:
        for distance, weight in enumerate(CLOSENESS, start=1):
            for one, other in zip(document[:-distance], document[distance:], strict=True):
                if one % 2 == other % 2 == 0:
                    expected[one // 2, other // 2] += weight
                    expected[other // 2, one // 2] += weight
    shards = shards_of(tmp_path, documents)
    assert np.array_equal(neighbour_counts(shards, words, VOCAB).numpy(), expected)
    monkeypatch.setattr(neighbours, "CHUNK", 20)
    fewer = neighbour_counts(shards, words, VOCAB).numpy()
    assert (fewer <= expected).all()
    assert fewer.sum() > 0.7 * expected.sum()


def test_words_that_keep_the_same_company_are_close(tmp_path: Path) -> None:
    """Tokens k and k + 20 stand in the same places of ten kinds of sentences; token 39 never occurs."""
    rng = np.random.default_rng(4)
    kinds = rng.integers(0, 9, 4000)
    sentences = np.stack([2 * kinds, 2 * kinds + 1], axis=1) + 20 * rng.integers(0, 2, (4000, 2))
    documents = np.array_split(sentences.reshape(-1), 400)
    words, vectors = neighbour_vectors(shards_of(tmp_path, documents), VOCAB, width=16, generator=torch.Generator())
    assert words.tolist() == [*range(18), *range(20, 38)]
    torch.testing.assert_close(vectors.square().mean(1), torch.ones(len(words)))
    close = torch.nn.functional.cosine_similarity(vectors[:, None], vectors[None], dim=-1)
    twins = close.diagonal(offset=18)
    others = close[:18, 18:][~torch.eye(18, dtype=torch.bool)]
    assert twins.min() > others.max()


def test_leading_vectors_are_those_of_torch_to_the_bit() -> None:
    """From the same state of a generator, which is left where torch leaves its own."""
    matrix = torch.rand(300, 300, generator=torch.Generator().manual_seed(1)).log().neg()
    state = torch.Generator().manual_seed(2)
    torch.manual_seed(2)
    theirs, strengths, _ = torch.svd_lowrank(matrix, q=40, niter=2)
    ours, ours_strengths = leading(matrix, 40, state)
    assert torch.equal(ours, theirs)
    assert torch.equal(ours_strengths, strengths)
    assert torch.equal(state.get_state(), torch.get_rng_state())
