"""Blocks and windows: every sentence once, long documents cut at sentence ends, a stranger where one is needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.sentence_windows import Blocks

MakeShards = Callable[..., Shards]


@pytest.mark.parametrize("block_tokens", [500, 4000, 10**7])
@pytest.mark.parametrize("stretch_tokens", [100, 1000, 10**6])
def test_blocks_hold_every_sentence_once(
    make_shards: MakeShards, documents: list[list[int]], block_tokens: int, stretch_tokens: int
) -> None:
    shards = make_shards(documents, per_shard=130)
    blocks = Blocks(shards, block_tokens=block_tokens, stretch_tokens=stretch_tokens)
    owner = np.repeat(np.arange(len(documents)), [sum(document) for document in documents])
    ends = np.cumsum([length for document in documents for length in document])
    sentences, covered = [], []
    for number in range(len(blocks)):
        text = blocks.text(number)
        assert text.cumulative[-1] == blocks.token_counts[number]
        for stretch in range(text.walked):
            first, stop = text.firsts[stretch], text.firsts[stretch + 1]
            place = text.positions[stretch]
            tokens = text.cumulative[stop] - text.cumulative[first]
            assert stop > first
            assert tokens <= stretch_tokens + 60
            assert (owner[place : place + tokens] == text.documents[stretch]).all()
            sentences += (place + text.cumulative[first + 1 : stop + 1] - text.cumulative[first]).tolist()
            covered.append((place, place + tokens))
    assert sorted(sentences) == ends.tolist()
    assert sum(stop - start for start, stop in covered) == ends[-1]


def test_short_documents_stay_whole(make_shards: MakeShards, documents: list[list[int]]) -> None:
    blocks = Blocks(make_shards(documents), block_tokens=1000, stretch_tokens=10**6)
    seen = [document for number in range(len(blocks)) for document in blocks.text(number).documents.tolist()]
    assert seen == list(range(len(documents)))


def test_one_long_document_becomes_many_blocks(make_shards: MakeShards) -> None:
    blocks = Blocks(make_shards([[10] * 5000]), block_tokens=5000, stretch_tokens=400)
    assert len(blocks) == 10
    assert set(blocks.token_counts.tolist()) == {5000}
    assert blocks.text(3).walked == 13


def test_a_sentence_longer_than_a_block_is_kept(make_shards: MakeShards) -> None:
    blocks = Blocks(make_shards([[5, 900, 5], [900], [3]]), block_tokens=100, stretch_tokens=50)
    assert int(blocks.token_counts.sum()) == 1813


def test_a_window_of_one_document_is_given_a_stranger(make_shards: MakeShards) -> None:
    blocks = Blocks(make_shards([[10] * 500, [3, 4]]), block_tokens=1000, stretch_tokens=400)
    text = blocks.window(np.array([1, 2]))
    assert text.documents[: text.walked].tolist() == [0] * text.walked
    assert 1 in text.documents[text.walked :]
    everything = blocks.window(np.arange(len(blocks)))
    assert everything.walked == len(everything.documents)
