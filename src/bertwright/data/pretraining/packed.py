"""Plans rows of single segments, for masking alone, and packs several into a row, so that little of it is padding.

A packed row is [CLS] A [SEP] [CLS] B [SEP] ...; its pieces are the rows of `plan_singles`. They are put into rows by
best fit, the longest first. Pieces of one length are handled together, as are rows with as much room left, so that the
work grows with the length of a row and not with the number of documents (Krell et al. 2021, "Efficient Sequence Packing
without Cross-contamination").
"""

from __future__ import annotations

import numpy as np

from bertwright.data.pretraining.planned_rows import PlannedRows, equal_rows, join_rows
from bertwright.data.pretraining.sentence_windows import Text

SPECIAL = 2
"""[CLS] and [SEP]: each piece has its own."""
LEAST_TOKENS = 8
"""A piece is cut only into parts of so many tokens or more: fewer are not worth their [CLS] and [SEP]."""


def plan_singles(text: Text, length: int, rng: np.random.Generator, *, fill: bool = False) -> PlannedRows:
    """Return the rows of at most `length` - 2 tokens that a window gives, in document order: [CLS] A [SEP].

    Known as full sentences without crossing documents (RoBERTa, Liu et al. 2019, section 4.2, "doc-sentences").

    A row takes whole sentences while they fit; a sentence longer than a row is cut. With `fill` every sentence is cut
    that does not fit, so that rows are full but for the first and last of a document. Every token of the window is in
    exactly one row. Without `fill` the cut is the same each time; with it, the first row of a document that needs more
    than one is cut short at random, so that the cuts of another epoch fall elsewhere.
    """
    room = length - 2
    ends = text.cumulative[text.firsts[1:]]
    at = text.cumulative[text.firsts[:-1]]
    active = np.arange(text.walked)
    stretches: list[np.ndarray] = []
    starts: list[np.ndarray] = []
    stops: list[np.ndarray] = []
    while active.size:
        start = at[active]
        if fill:
            stop = np.minimum(start + room, ends[active])
            if not starts:
                early = start + rng.integers(room // 2, room, size=active.size, endpoint=True)
                stop = np.where(ends[active] - start > room, early, stop)
        else:
            whole = text.cumulative[np.searchsorted(text.cumulative, start + room, side="right") - 1]
            stop = np.minimum(np.where(whole > start, whole, start + room), ends[active])
        stretches.append(active)
        starts.append(start)
        stops.append(stop)
        at[active] = stop
        active = active[stop < ends[active]]
    first = np.concatenate(starts)
    return equal_rows(text.places(np.concatenate(stretches), first), np.concatenate(stops) - first)


def plan_packed(text: Text, length: int, rng: np.random.Generator, *, fill: bool = False) -> PlannedRows:
    """Return the rows of at most `length` tokens, special ones counted, that a window gives, in no particular order.

    Every token of the window is in exactly one row; which documents share a row, and in which order, is drawn. Pieces
    are whole sentences while they fit a row. With `fill` they are cut as `plan_singles` cuts them, and where a row
    would still have room worth filling, its pieces are packed once more, and cut so that they fill rows.
    """
    pieces = plan_singles(text, length, rng, fill=fill)
    rows = best_fit(pieces.starts, pieces.lengths, length, rng)
    if not fill:
        return rows
    used = np.add.reduceat(rows.lengths.astype(np.int64) + SPECIAL, rows.firsts[:-1])
    loose = length - used >= SPECIAL + LEAST_TOKENS
    again = rows.take(np.flatnonzero(loose))
    return join_rows([rows.take(np.flatnonzero(~loose)), best_fit(again.starts, again.lengths, length, rng, cut=True)])


def best_fit(
    starts: np.ndarray, lengths: np.ndarray, length: int, rng: np.random.Generator, *, cut: bool = False
) -> PlannedRows:
    """Return rows of the pieces at `starts` [N], of `lengths` [N] tokens, each placed where it leaves least room.

    With `cut`, a piece that fits no open row fills the one with most room, and the rest of it is a piece of its own.
    """
    waiting = _by_size(starts, lengths, length, rng)
    room = [np.zeros(0, dtype=np.int64) for _ in range(length + 1)]  # the open rows, by the tokens that still fit
    placed: list[tuple[np.ndarray, ...]] = [(starts[:0], lengths[:0], room[0])]
    opened = 0
    for size in range(length, SPECIAL, -1):
        left = np.concatenate(waiting[size])
        while left.size:
            space = _choose(room, size, cut=cut)
            if space is None:
                space, fresh = length, _rows_to_open(left.size, size, length, cut=cut)
                room[space] = np.arange(opened, opened + fresh)
                opened += fresh
            part = size if space >= size else min(space, size - LEAST_TOKENS)
            count = min(left.size, room[space].size)
            rows, room[space] = np.split(room[space], [count])
            room[space - part] = np.concatenate([room[space - part], rows])
            placed.append((left[:count], np.full(count, part - SPECIAL, dtype=np.int32), rows))
            if part < size:
                waiting[size - part + SPECIAL].append(left[:count] + part - SPECIAL)
            left = left[count:]
    return _as_rows(placed, opened, rng)


def _by_size(starts: np.ndarray, lengths: np.ndarray, length: int, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Return the starts of the pieces by their size, special tokens counted (0 to `length`), each in random order."""
    order = rng.permutation(len(starts))
    order = order[np.argsort(lengths[order], kind="stable")]
    bounds = np.searchsorted(lengths[order] + SPECIAL, np.arange(length + 2))
    return [[starts[order[bounds[size] : bounds[size + 1]]]] for size in range(length + 1)]


def _choose(room: list[np.ndarray], size: int, *, cut: bool) -> int | None:
    """Return the least room that takes a piece of `size`, else the most that takes a part of it, else None."""
    whole = next((space for space in range(size, len(room)) if room[space].size), None)
    if whole is not None or not cut or size < SPECIAL + 2 * LEAST_TOKENS:
        return whole
    return next((space for space in range(size - 1, SPECIAL + LEAST_TOKENS - 1, -1) if room[space].size), None)


def _rows_to_open(count: int, size: int, length: int, *, cut: bool) -> int:
    """Return the least number of rows that `count` pieces of `size` need, cut or whole."""
    return -(-count * size // length) if cut else -(-count // (length // size))


def _as_rows(placed: list[tuple[np.ndarray, ...]], count: int, rng: np.random.Generator) -> PlannedRows:
    """Return `count` rows from (starts, lengths, rows) of pieces; in random order within a row."""
    starts, lengths, rows = (np.concatenate(column) for column in zip(*placed, strict=True))
    order = np.lexsort((rng.random(len(rows)), rows))
    return PlannedRows(
        starts=starts[order],
        lengths=lengths[order],
        firsts=np.searchsorted(rows[order], np.arange(count + 1)),
        labels=np.zeros(count, dtype=np.int8),
    )
