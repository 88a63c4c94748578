"""Makes small corpora in memory whose token ids tell where each token stands, so that every row can be traced back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard

FIRST_ID = 10

MakeShards = Callable[..., Shards]


@dataclass(frozen=True)
class Special:
    """Special ids below `FIRST_ID`."""

    pad: int = 0
    cls: int = 2
    sep: int = 3


@pytest.fixture
def make_shards(tmp_path: Path) -> MakeShards:
    """Return a maker of shards from sentence lengths; token number n of the split has id `FIRST_ID` + n."""

    def make(documents: Sequence[Sequence[int]], *, per_shard: int = 10**9, fingerprint: str = "test") -> Shards:
        shards, first = [], 0
        rng = np.random.default_rng(0)
        for number, at in enumerate(range(0, len(documents), per_shard)):
            part = documents[at : at + per_shard]
            counts = np.array([sum(document) for document in part], dtype=np.int64)
            total = int(counts.sum())
            block = DocumentBlock(
                tokens=np.arange(first, first + total, dtype=np.uint32) + FIRST_ID,
                token_counts=counts,
                sentence_ends=np.concatenate([np.cumsum(document) for document in part]).astype(np.uint32),
                sentence_counts=np.array([len(document) for document in part], dtype=np.int64),
                word_starts=rng.random(total) < 0.7,
            )
            path = tmp_path / f"{fingerprint}-{len(documents)}-{number}.arrow"
            write_shard(path, block)
            shards.append(Shard.open(path))
            first += total
        return Shards(shards, fingerprint=fingerprint)

    return make


@pytest.fixture
def special() -> Special:
    """Return the special ids of the tests."""
    return Special()


@pytest.fixture
def documents() -> list[list[int]]:
    """Return 400 documents of 1 to 40 sentences of 1 to 60 tokens, 100,000 tokens or so in all."""
    rng = np.random.default_rng(1)
    counts = np.minimum(40, rng.geometric(0.08, 400))
    return [np.clip(np.exp(rng.normal(2.8, 0.7, count)), 1, 60).astype(int).tolist() for count in counts]
