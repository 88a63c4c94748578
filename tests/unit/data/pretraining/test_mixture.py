"""Mixtures: exact shares, every row of each source in its order, the same batch however it is come by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.mixture import CYCLE, MixtureSource


@pytest.fixture
def sources(make_shards: Callable[..., Shards], special: Any, documents: list[list[int]]) -> list[BatchSource]:
    """Three corpora of different sizes; batches of 16 rows of 32 tokens."""
    parts = [documents[:200], documents[200:240], documents[240:]]
    return [
        BatchSource(
            make_shards(part, fingerprint=f"corpus {n}"), special=special, length=32, rows=16, pairs=False, seed=3
        )
        for n, part in enumerate(parts)
    ]


def test_every_source_gives_its_share_to_within_one_row(sources: list[BatchSource]) -> None:
    mixture = MixtureSource(sources, [0.7, 0.2, 0.1], rows=64, seed=0)
    owners = np.concatenate([mixture._owners(cycle) for cycle in range(5)])
    for index, share in enumerate((0.7, 0.2, 0.1)):
        assert abs((owners == index).sum() - share * 5 * CYCLE) <= 1
        assert 0.9 * share < (owners[:2000] == index).mean() < 1.1 * share + 0.02
    assert not np.array_equal(mixture._owners(0), mixture._owners(1))


@pytest.mark.parametrize("rows", [16, 48, 5000])
def test_batches_hold_the_next_rows_of_each_source_in_a_row(sources: list[BatchSource], rows: int) -> None:
    """Rows 0, 1, 2 ... of a source come out in that order, none twice and none passed over, across cycles too."""
    mixture = MixtureSource(sources, [3, 1, 2], rows=rows, seed=1)
    count = -(-9000 // rows)
    drawn = torch.cat([mixture.draw(t).input_ids for t in range(count)])
    owners = np.concatenate([mixture._owners(cycle) for cycle in range(-(-count * rows // CYCLE))])[: count * rows]
    for index, source in enumerate(sources):
        mine = drawn[torch.from_numpy(owners == index)]
        expected = source.rows_from(0, len(mine)).input_ids
        assert torch.equal(mine, expected)


def test_a_batch_is_a_pure_function_of_its_number(sources: list[BatchSource]) -> None:
    one, other = (MixtureSource(sources, [0.5, 0.25, 0.25], rows=16, seed=7) for _ in range(2))
    batches = [one.draw(t) for t in range(600)]
    for t in (599, 3, 256, 255):
        again = other.draw(t)
        assert torch.equal(again.input_ids, batches[t].input_ids)
        assert torch.equal(again.word_starts, batches[t].word_starts)
    different = MixtureSource(sources, [0.5, 0.25, 0.25], rows=16, seed=8)
    assert any(not torch.equal(different.draw(t).input_ids, batches[t].input_ids) for t in range(5))


def test_pairs_keep_their_labels(make_shards: Callable[..., Shards], special: Any, documents: list[list[int]]) -> None:
    sources = [
        BatchSource(make_shards(part, fingerprint=name), special=special, length=48, rows=8, pairs=True, seed=0)
        for name, part in (("a", documents[:300]), ("b", documents[300:]))
    ]
    batch = MixtureSource(sources, [1, 1], rows=32, seed=0).draw(4)
    assert batch.documents is None
    known: dict[tuple[int, ...], int] = {}
    for source in sources:
        rows = source.rows_from(0, 200)
        assert rows.next_label is not None
        known |= {
            tuple(ids): label for ids, label in zip(rows.input_ids.tolist(), rows.next_label.tolist(), strict=True)
        }
    assert batch.next_label is not None
    for ids, label in zip(batch.input_ids.tolist(), batch.next_label.tolist(), strict=True):
        assert known[tuple(ids)] == label


def test_how_many_documents_mixed_rows_hold_is_known_beforehand(
    make_shards: Callable[..., Shards], special: Any, documents: list[list[int]]
) -> None:
    """For packed sources at least as many as there are; the same number for every batch."""
    packed = [
        BatchSource(
            make_shards(part, fingerprint=f"corpus {n}"),
            special=special, length=64, rows=16, pairs=False, seed=3, pack=True,
        )
        for n, part in enumerate((documents[:200], documents[200:]))
    ]  # fmt: skip
    mixture, found = MixtureSource(packed, [2, 1], rows=16, seed=0), set()
    for t in range(20):
        batch = mixture.draw(t)
        assert batch.documents is not None
        here = torch.nn.functional.pad(batch.documents, (1, 0), value=-1)
        assert batch.layout.sequences >= int((here[:, 1:] != here[:, :-1]).sum())
        found.add(batch.layout.sequences)
    assert len(found) == 1
