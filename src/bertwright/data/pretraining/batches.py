"""Turns shards into batches: batch t is a pure function of (data fingerprint, seed, t), read straight from the shards.

    t -> row numbers -> (epoch, window, offset) by arithmetic -> the window's plan (cached) -> tokens

The number of rows of a window is fixed before it is planned: its share, by tokens, of `rows_per_epoch`, which is
measured once on a sample of up to a quarter window. Where a plan gives fewer rows it goes on with a second pass drawn
afresh; where it gives more, the surplus is dropped at random. On 26M tokens of mixed English, two windows an epoch,
plans were within 0.6% of their number of rows (pairs and single segments, 128 and 512 tokens).

An epoch of pairs walks every sentence once and adds the random segments: on that text it has 1.2 times the tokens of
the text at 128 and 1.3 times at 512.

    >>> # needs a DATA folder
    >>> source = BatchSource(shards, special=special, length=128, rows=64, pairs=True, seed=0)  # doctest: +SKIP
    >>> source.draw(1000).input_ids.shape  # without drawing those before  # doctest: +SKIP
    torch.Size([64, 128])
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Protocol

import numpy as np
import torch

from bertwright.batch_layout import RowLayout
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.packed import plan_packed, plan_singles
from bertwright.data.pretraining.pairs import plan_ordered_pairs, plan_pairs, why_no_pairs
from bertwright.data.pretraining.planned_rows import PlannedRows, join_rows
from bertwright.data.pretraining.sentence_windows import BLOCK_TOKENS, STRETCH_TOKENS, WINDOW_TOKENS, Blocks, Text
from bertwright.errors import DataError
from bertwright.rng import stream
from bertwright.types import Batch

Planner = Callable[[Text, int, np.random.Generator], PlannedRows]

SHORTEST_ROW = 8
NO_PAIRS_HERE = "a part of the data has no two sentences in a row to make pairs of; train without pairs"


class SpecialTokens(Protocol):
    """The ids of the special tokens a row is made with."""

    @property
    def pad(self) -> int:
        """Fills a row up."""

    @property
    def cls(self) -> int:
        """Stands first."""

    @property
    def sep(self) -> int:
        """Ends each segment."""


def room_for_runs(count: int, *, expected: float) -> int:
    """Return a number of runs of tokens, `count` or more, that is the same for nearly all batches of a source.

    Half more than its batches have on average: the shape of what a GPU computes with would else change all the time.
    """
    room = 8 * math.ceil(1.5 * expected / 8)
    while room < count:
        room *= 2
    return room


class BatchSource:
    """Batches of `rows` rows of `length` tokens from one split, for any number of epochs.

    rows_per_epoch  rows in which the split passes by once; the same for every epoch and seed
    runs_per_row    documents of a packed row and its padding, where it has some, on average
    """

    def __init__(
        self,
        shards: Shards,
        *,
        special: SpecialTokens,
        length: int,
        rows: int,
        pairs: bool,
        seed: int,
        ordered: bool = False,
        fill: bool = False,
        pack: bool = False,
        block_tokens: int = BLOCK_TOKENS,
        window_tokens: int = WINDOW_TOKENS,
        stretch_tokens: int = STRETCH_TOKENS,
    ) -> None:
        """Measure the split; raises DataError where it has no text or, with `pairs`, cannot make pairs.

        With `ordered`, pairs are of two segments that follow one another, half of them swapped (see
        `plan_ordered_pairs`). Without `pairs`, `fill` cuts sentences so that rows are full (see `plan_singles`), and
        `pack` puts several documents into a row (see `plan_packed`).
        """
        if length < SHORTEST_ROW:
            raise DataError(f"a row of {length} tokens leaves no room for text; give {SHORTEST_ROW} or more")
        reason = why_no_pairs(shards, ordered=ordered) if pairs else None
        if reason is not None:
            raise DataError(reason)
        self.shards, self.special, self.length, self.rows, self.seed = shards, special, length, rows, seed
        self.pairs, self.pack = pairs, pack
        of_pairs = plan_ordered_pairs if ordered else plan_pairs
        self._plan_text: Planner = of_pairs if pairs else partial(plan_packed if pack else plan_singles, fill=fill)
        self._blocks = Blocks(shards, block_tokens=block_tokens, stretch_tokens=stretch_tokens)
        self.window_count = max(1, min(len(self._blocks), round(shards.token_count / window_tokens)))
        self.runs_per_row = 1.0
        self.rows_per_epoch = self._measure(window_tokens // 4)
        self._layout = lru_cache(maxsize=2)(self._make_layout)
        self._plan = lru_cache(maxsize=2)(self._make_plan)

    def draw(self, t: int) -> Batch:
        """Return batch `t` (from 0) on the CPU."""
        return self.rows_from(t * self.rows, self.rows)

    def rows_from(self, first: int, count: int) -> Batch:
        """Return `count` rows on the CPU, from row `first` on, counted over all epochs."""
        wanted, parts = count, []
        while wanted:
            epoch, row = divmod(first, self.rows_per_epoch)
            _windows, bounds = self._layout(epoch)
            window = int(np.searchsorted(bounds, row, side="right")) - 1
            offset = row - int(bounds[window])
            part = self.plan(epoch, window).take(slice(offset, offset + wanted))
            parts.append(part)
            first, wanted = first + len(part), wanted - len(part)
        return self.read(join_rows(parts))

    def plan(self, epoch: int, window: int) -> PlannedRows:
        """Return the rows of one window of an epoch in the order they are drawn; the last two plans are kept."""
        return self._plan(epoch, window)

    def read(self, rows: PlannedRows) -> Batch:
        """Return planned rows as a batch, their tokens read from the shards."""
        count, length, pieces = len(rows), self.length, np.diff(rows.firsts)
        lengths, opens = rows.lengths.astype(np.int64), self._opens(rows)
        sizes = lengths + 1 + opens
        before = np.cumsum(sizes) - sizes
        at = before + np.repeat(np.arange(count) * length - before[rows.firsts[:-1]], pieces)
        ids = np.full(count * length, self.special.pad, dtype=np.int64)
        words = np.zeros(count * length, dtype=bool)
        maskable = np.zeros(count * length, dtype=bool)
        ids[at[opens]] = self.special.cls
        ids[at + sizes - 1] = self.special.sep
        self._copy(rows.starts, lengths, at + opens, (ids, words, maskable))
        attention = np.arange(length) < np.add.reduceat(sizes, rows.firsts[:-1])[:, None]
        segment = np.zeros((count, length), dtype=np.int64)
        segment[attention] = np.repeat(np.arange(1, len(sizes) + 1) - np.repeat(rows.firsts[:-1], pieces), sizes)
        return Batch(
            input_ids=torch.from_numpy(ids.reshape(count, length)),
            token_type_ids=torch.from_numpy(((segment == 2) & self.pairs).astype(np.int64)),
            attention_mask=torch.from_numpy(attention),
            maskable=torch.from_numpy(maskable.reshape(count, length)),
            word_starts=torch.from_numpy(words.reshape(count, length)),
            next_label=torch.from_numpy(rows.labels.astype(np.int64)) if self.pairs else None,
            documents=torch.from_numpy(segment) if self.pack else None,
            layout=self._layout_of(attention, count=len(sizes)),
        )

    def _layout_of(self, attention: np.ndarray, *, count: int) -> RowLayout:
        """Return what is known of rows with tokens where `attention` [B, S] says so, of `count` segments in all."""
        rows, full = len(attention), bool(attention.all())
        if not self.pack:
            return RowLayout(full=full)
        runs = count + int((~attention[:, -1]).sum())
        return RowLayout(full and count == rows, room_for_runs(runs, expected=rows * self.runs_per_row))

    def _opens(self, rows: PlannedRows) -> np.ndarray:
        """Return [N] bool: which segments begin with [CLS], the first of a row and, but for pairs, every one."""
        opens = np.full(len(rows.starts), not self.pairs)
        opens[rows.firsts[:-1]] = True
        return opens

    def _copy(self, starts: np.ndarray, lengths: np.ndarray, places: np.ndarray, into: tuple[np.ndarray, ...]) -> None:
        """Copy the segments that begin at `starts` to `places` of flat (ids, word starts, maskable)."""
        ids, words, maskable = into
        bases = self._blocks.shard_positions
        owners = np.searchsorted(bases, starts, side="right") - 1
        for index in np.unique(owners):
            shard, mine = self.shards.shards[index], owners == index
            size = lengths[mine]
            within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
            source = within + np.repeat(starts[mine] - bases[index], size)
            target = within + np.repeat(places[mine], size)
            ids[target] = shard.tokens[source]
            words[target] = (shard.word_start_bits[source >> 3] >> (source & 7).astype(np.uint8)) & 1
            maskable[target] = True
        words[places[lengths > 0]] = True

    def _make_plan(self, epoch: int, window: int) -> PlannedRows:
        windows, bounds = self._layout(epoch)
        wanted = int(bounds[window + 1] - bounds[window])
        text = self._blocks.window(windows[window])
        rng = stream("plan", self.shards.fingerprint, self.seed, epoch, window, self.length)
        rows = self._plan_text(text, self.length, rng)
        while len(rows) < wanted:
            more = self._plan_text(text, self.length, rng)
            if not len(more):
                raise DataError(NO_PAIRS_HERE)
            rows = join_rows([rows, more.take(rng.permutation(len(more))[: wanted - len(rows)])])
        return rows.take(rng.permutation(len(rows))[:wanted])

    def _make_layout(self, epoch: int) -> tuple[list[np.ndarray], np.ndarray]:
        """Return the blocks of each window of an epoch, and the first row of each window, `rows_per_epoch` last."""
        rng = stream("order", self.shards.fingerprint, self.seed, epoch, self.length)
        windows = np.array_split(rng.permutation(len(self._blocks)), self.window_count)
        tokens = np.cumsum([0] + [int(self._blocks.token_counts[window].sum()) for window in windows])
        return windows, tokens * self.rows_per_epoch // tokens[-1]

    def _measure(self, sample_tokens: int) -> int:
        """Return the rows of an epoch, from the plan of blocks evenly spread over the split."""
        blocks, total = self._blocks, self.shards.token_count
        count = max(1, min(len(blocks), round(len(blocks) * sample_tokens / total)))
        sample = np.unique(np.linspace(0, len(blocks) - 1, count).round().astype(np.int64))
        rng = stream("measure", self.shards.fingerprint, self.length)
        rows = self._plan_text(blocks.window(sample), self.length, rng)
        scale = total / int(blocks.token_counts[sample].sum())
        if not len(rows):
            raise DataError(NO_PAIRS_HERE)
        self.runs_per_row = len(rows.starts) / len(rows) + 1
        return max(1, round(len(rows) * scale))
