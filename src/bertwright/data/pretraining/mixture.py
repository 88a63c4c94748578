"""Turns several sources of rows into one whose batches hold rows of each in given shares, drawn by a counter.

    row i -> cycle i // 4096 -> whose row it is (the cycle's own permutation) -> that source's next row

Over any number of whole cycles each source has its share of the rows to within one row. Which row comes from where, and
how many of a source's rows came before, follow by arithmetic: batch t is a pure function of the sources, seed and t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from bertwright.batch_layout import RowLayout
from bertwright.data.pretraining.batches import BatchSource, room_for_runs
from bertwright.rng import stream
from bertwright.types import Batch

CYCLE = 4096
"""Rows drawn in one permutation."""
SMALLEST_SHARE = 0.001
"""Four rows a cycle: fewer and a cycle could have none."""


class MixtureSource:
    """Batches of `rows` rows, of which each of `sources` gives its share.

    rows_per_epoch    rows in which as many pass by as all sources hold together
    """

    def __init__(self, sources: Sequence[BatchSource], shares: Sequence[float], *, rows: int, seed: int) -> None:
        """Mix sources of rows of one length; `shares` add up to anything, and each is SMALLEST_SHARE of it or more."""
        self.sources, self.rows, self.seed = list(sources), rows, seed
        exact = [Fraction(share).limit_denominator(1_000_000) for share in shares]
        self._bounds = [sum(exact[:index], Fraction(0)) / sum(exact) for index in range(len(exact) + 1)]
        self.rows_per_epoch = sum(source.rows_per_epoch for source in sources)
        self._name = [name for source in sources for name in (source.shards.fingerprint, source.length)]
        self._owners = lru_cache(maxsize=2)(self._make_owners)

    def draw(self, t: int) -> Batch:
        """Return batch `t` (from 0) on the CPU."""
        first, owners = t * self.rows, []
        cycle, offset = divmod(first, CYCLE)
        starts = self._before(cycle * CYCLE) + np.bincount(self._owners(cycle)[:offset], minlength=len(self.sources))
        wanted = self.rows
        while wanted:
            part = self._owners(cycle)[offset : offset + wanted]
            owners.append(part)
            cycle, offset, wanted = cycle + 1, 0, wanted - len(part)
        return self._read(np.concatenate(owners), starts)

    def _read(self, owners: np.ndarray, starts: np.ndarray) -> Batch:
        """Return a row of each of `owners` [B] in their order, each source's from its row of `starts` on."""
        counts = np.bincount(owners, minlength=len(self.sources))
        batches = [
            source.rows_from(int(start), int(count))
            for source, start, count in zip(self.sources, starts, counts, strict=True)
            if count
        ]
        places = torch.from_numpy(np.argsort(np.argsort(owners, kind="stable"), kind="stable"))
        joined: dict[str, Any] = {}
        for name in batches[0].tensors():
            joined[name] = torch.cat([getattr(batch, name) for batch in batches])[places]
        return replace(batches[0], **joined, layout=self._layout_of(batches))

    def _layout_of(self, batches: Sequence[Batch]) -> RowLayout:
        """Return what is known of the rows of several sources together."""
        full = all(batch.layout.full for batch in batches)
        if batches[0].documents is None:
            return RowLayout(full)
        expected = self.rows * max(source.runs_per_row for source in self.sources)
        return RowLayout(full, room_for_runs(sum(batch.layout.sequences for batch in batches), expected=2 * expected))

    def _before(self, row: int) -> np.ndarray:
        """Return how many of the first `row` rows, whole cycles, are each source's, int64 [K]."""
        return np.diff(np.array([row * bound.numerator // bound.denominator for bound in self._bounds]))

    def _make_owners(self, cycle: int) -> np.ndarray:
        """Return the source of each row of a cycle, int64 [CYCLE]."""
        counts = self._before((cycle + 1) * CYCLE) - self._before(cycle * CYCLE)
        owners = np.repeat(np.arange(len(self.sources)), counts)
        return stream("mixture", *self._name, self.seed, cycle).permutation(owners)
