"""Plans rows of one segment, [CLS] A [SEP]: full consecutive sentences of one document, for masking alone.

Known as full-sentences without crossing documents (RoBERTa, Liu et al. 2019, section 4.2, "doc-sentences").
"""

from __future__ import annotations

import numpy as np

from bertwright.data.rows import Rows
from bertwright.data.windows import Text


def plan_singles(text: Text, length: int, rng: np.random.Generator) -> Rows:
    """Return the rows of at most `length` - 2 tokens that a window gives, in document order.

    A row takes whole sentences while they fit; a sentence longer than a row is cut. Every token of the window is in
    exactly one row. The cut is the same each time (`rng` is not used): what differs by epoch is order and masks.
    """
    room = length - 2
    ends = text.cumulative[text.firsts[1:]]
    at = text.cumulative[text.firsts[:-1]]
    active = np.arange(text.walked)
    stretches, starts, stops = [], [], []
    while active.size:
        start = at[active]
        whole = text.cumulative[np.searchsorted(text.cumulative, start + room, side="right") - 1]
        stop = np.minimum(np.where(whole > start, whole, start + room), ends[active])
        stretches.append(active)
        starts.append(start)
        stops.append(stop)
        at[active] = stop
        active = active[stop < ends[active]]
    first = np.concatenate(starts)
    count = len(first)
    return Rows(
        a_starts=text.places(np.concatenate(stretches), first),
        a_lengths=(np.concatenate(stops) - first).astype(np.int32),
        b_starts=np.zeros(count, dtype=np.int64),
        b_lengths=np.zeros(count, dtype=np.int32),
        labels=np.zeros(count, dtype=np.int8),
    )
