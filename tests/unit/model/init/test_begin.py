"""First weights: words as their neighbours have them, whatever else is drawn while they are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bertwright.corpus.cooccurrence import NeighbourCounts, count_neighbours
from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.encoder_config import EncoderConfig
from bertwright.model.init.begin import initialise
from bertwright.tokenizer.load import SpecialIds

VOCAB = 60
SPECIAL = SpecialIds(55, 56, 57, 58, 59)


def some_shards(folder: Path) -> Shards:
    tokens = np.random.default_rng(0).zipf(1.3, 20_000) % (VOCAB - 5)
    counts = np.full(200, 100, dtype=np.int64)
    block = DocumentBlock(
        tokens=tokens.astype(np.uint16),
        token_counts=counts,
        sentence_ends=counts.astype(np.uint32),
        sentence_counts=np.ones(200, dtype=np.int64),
        word_starts=np.ones(20_000, dtype=bool),
    )
    write_shard(folder / "train-00000.arrow", block)
    return Shards([Shard.open(folder / "train-00000.arrow")], fingerprint="test")


def drawn(seed: int) -> Encoder:
    torch.manual_seed(seed)
    shape = named_size("tiny", vocab_size=VOCAB, architecture="modern", hidden_size=32, heads=2, max_positions=16)
    return build_encoder(shape)


def words_of(shards: Shards, *, seed: int, meanwhile: int) -> torch.Tensor:
    model = drawn(seed)
    before = model.word_embeddings.weight.detach().clone()

    def counts() -> NeighbourCounts:
        found = count_neighbours(shards, VOCAB)
        torch.manual_seed(meanwhile)  # as what else draws at the same time
        return found

    initialise(
        model,
        EncoderConfig(architecture="modern", neighbour_start=True),
        counts,
        special=SPECIAL,
        next_sentence=False,
        examples=lambda: [],
    )
    after = model.word_embeddings.weight.detach()
    assert torch.equal(after[-5:], before[-5:])  # which never occur
    assert not torch.isclose(after[:-5], before[:-5]).all(1).any()
    return after


def test_words_depend_on_the_seed_alone(tmp_path: Path) -> None:
    shards = some_shards(tmp_path)
    first = words_of(shards, seed=1, meanwhile=5)
    assert torch.equal(first, words_of(shards, seed=1, meanwhile=6))
    assert not torch.equal(first, words_of(shards, seed=2, meanwhile=5))


def test_nothing_is_counted_where_nothing_is_asked_for() -> None:
    model = drawn(1)
    before = model.word_embeddings.weight.detach().clone()
    initialise(
        model,
        EncoderConfig(architecture="modern"),
        lambda: pytest.fail("counted"),
        special=SPECIAL,
        next_sentence=False,
        examples=lambda: [],
    )
    assert torch.equal(model.word_embeddings.weight, before)
