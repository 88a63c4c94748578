"""Single segments: every token once, whole sentences while they fit, or rows filled to the last token."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.packed import plan_singles
from bertwright.data.pretraining.sentence_windows import Blocks

MakeShards = Callable[..., Shards]


def reference_rows(documents: list[list[int]], room: int) -> list[tuple[int, int]]:
    """Return (start, length) of each row, by plain loops."""
    rows, at = [], 0
    for document in documents:
        row = 0
        for sentence in document:
            if row and row + sentence > room:
                rows.append((at, row))
                at, row = at + row, 0
            row += sentence
            while row > room:
                rows.append((at, room))
                at, row = at + room, row - room
        rows.append((at, row))
        at += row
    return rows


@pytest.mark.parametrize("length", [16, 64, 512])
def test_rows_equal_those_of_plain_loops(make_shards: MakeShards, documents: list[list[int]], length: int) -> None:
    text = Blocks(make_shards(documents), block_tokens=10**6, stretch_tokens=10**6).window(np.arange(1))
    rows = plan_singles(text, length, np.random.default_rng(0))
    assert sorted(zip(rows.starts, rows.lengths, strict=True)) == reference_rows(documents, length - 2)
    assert int(rows.lengths.sum()) == sum(map(sum, documents))


@pytest.mark.parametrize("length", [16, 128])
def test_filled_rows_waste_nothing(make_shards: MakeShards, documents: list[list[int]], length: int) -> None:
    """Every token once; only the first and last row of a document are short; another epoch cuts elsewhere."""
    text = Blocks(make_shards(documents), block_tokens=10**6, stretch_tokens=10**6).window(np.arange(1))
    cuts = []
    for seed in (0, 1):
        rows = plan_singles(text, length, np.random.default_rng(seed), fill=True)
        order = np.argsort(rows.starts)
        starts, lengths = rows.starts[order], rows.lengths[order].astype(np.int64)
        ends = starts + lengths
        assert starts[0] == 0
        assert (starts[1:] == ends[:-1]).all()
        edges = np.cumsum([sum(document) for document in documents])
        assert set(edges) <= set(ends)
        between = ~np.isin(ends, edges) & ~np.isin(starts, [0, *edges])
        assert (lengths[between] == length - 2).all()
        assert between.sum() > 0.3 * len(rows)
        assert lengths.min() >= 1
        cuts.append(set(starts))
    assert len(cuts[0] & cuts[1]) < 0.6 * len(cuts[0])


def test_filling_never_cuts_what_fits(make_shards: MakeShards) -> None:
    """Documents no longer than a row stay whole, one a row."""
    lengths = [[20, 30], [62], [1], [40, 22], [63]]
    text = Blocks(make_shards(lengths), block_tokens=10**6, stretch_tokens=10**6).window(np.arange(1))
    rows = plan_singles(text, 64, np.random.default_rng(0), fill=True)
    sizes = dict(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True))
    assert [sizes[start] for start in (0, 50, 112, 113)] == [50, 62, 1, 62]
    assert len(rows) == 6
