"""Single segments: every token once, whole sentences while they fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bertwright.corpus.shards import Shards
from bertwright.data.singles import plan_singles
from bertwright.data.windows import Blocks

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
    assert sorted(zip(rows.a_starts, rows.a_lengths, strict=True)) == reference_rows(documents, length - 2)
    assert rows.tokens == sum(map(sum, documents))
