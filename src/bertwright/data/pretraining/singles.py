"""Plans rows of one segment, [CLS] A [SEP]: full consecutive sentences of one document, for masking alone.

Known as full-sentences without crossing documents (RoBERTa, Liu et al. 2019, section 4.2, "doc-sentences").
"""

from __future__ import annotations

import numpy as np

from bertwright.data.pretraining.planned_rows import PlannedRows, equal_rows
from bertwright.data.pretraining.sentence_windows import Text


def plan_singles(text: Text, length: int, rng: np.random.Generator, *, fill: bool = False) -> PlannedRows:
    """Return the rows of at most `length` - 2 tokens that a window gives, in document order.

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
