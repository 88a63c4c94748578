"""Plans sentence pairs, [CLS] A [SEP] B [SEP], as the data builder of the 2018 paper draws them, a window at a time.

Source: Devlin et al. 2018, appendix A.2, and its reference data builder. Each document is walked once:

1. Sentences gather into a chunk until it has `target` tokens or the document ends. The target is all the room there is
   (S - 3), or with probability 0.1 uniform in [2, S - 3]. It is drawn for each pair; the reference draws it once a
   document, so here short pairs are 10% in long documents too.
2. A is the first 1 to n - 1 of the chunk's n sentences, uniformly (the one sentence where n = 1).
3. With probability 1/2, or where n = 1, B is a run of sentences from a random start in another document, until A and B
   have `target` tokens; the unused sentences of the chunk go back, and the walk goes on after A. Else B is the rest of
   the chunk.
4. While A and B are longer than S - 3, the longer one (B on a tie) loses a token at its front or its back, 1/2 each.

Because a chunk of one sentence is always given a random B, the share of random pairs is above 1/2, as in the reference:
on 26M tokens of mixed English 52.9% at 128 tokens (5.8% of chunks hold one sentence) and 52.3% at 512.
The other document is uniform among the other documents of the window (of the corpus, where it fits into one window).
All stretches of a window are walked in lockstep: one round of array operations moves each of them by one pair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.planned_rows import PlannedRows, equal_rows
from bertwright.data.pretraining.sentence_windows import Text

SHORT_SHARE = 0.1
RANDOM_SHARE = 0.5
NO_TWO = (
    "ordered pairs need documents of two or more sentences, and all {count:,} documents hold one; prepare the input "
    "with longer documents, or train on objectives about tokens: --objective.names '[\"mlm\"]'"
)


@dataclass(frozen=True)
class Chunks:
    """What the walk gives, C chunks: sentences [starts:middles] are A, [middles:stops] the rest; all [C] int64."""

    stretches: np.ndarray
    starts: np.ndarray
    middles: np.ndarray
    stops: np.ndarray
    targets: np.ndarray
    random: np.ndarray


def why_no_pairs(shards: Shards, *, ordered: bool = False) -> str | None:
    """Return why no sentence pairs can be drawn from a split, with the way out, or None where they can.

    With `ordered` they are those of `plan_ordered_pairs`, which need no second document.
    """
    if ordered:
        return None if shards.sentence_count > shards.document_count else NO_TWO.format(count=shards.document_count)
    if shards.document_count < 2:
        return (
            "next sentence prediction needs a second document to draw from, and the data holds "
            f"{shards.document_count}; split the input into documents with prepare --document-boundary blank|line, "
            "or train without it: --objective.next_sentence false"
        )
    if shards.sentence_count <= shards.document_count:
        return (
            "next sentence prediction needs documents of two or more sentences, and all "
            f"{shards.document_count:,} documents hold one, so every pair would be random; "
            "prepare the input with longer documents, or train without it: --objective.next_sentence false"
        )
    return None


def plan_pairs(text: Text, length: int, rng: np.random.Generator) -> PlannedRows:
    """Return one pass of pairs over a window, at most `length` - 3 tokens each, in no particular order.

    The window must hold two documents or more (see `why_no_pairs` and `Blocks.window`).
    """
    chunks = walk(text, length, rng)
    a_tokens = text.cumulative[chunks.starts]
    a_lengths = text.cumulative[chunks.middles] - a_tokens
    b_tokens = text.cumulative[chunks.middles]
    b_lengths = text.cumulative[chunks.stops] - b_tokens
    b_stretches = chunks.stretches.copy()
    which = np.flatnonzero(chunks.random)
    wanted = chunks.targets[which] - a_lengths[which]
    b_stretches[which], b_tokens[which], b_lengths[which] = _draw_elsewhere(text, chunks.stretches[which], wanted, rng)
    a_drop, b_drop = truncation(a_lengths, b_lengths, length - 3)
    a_starts = text.places(chunks.stretches, a_tokens + rng.binomial(a_drop, 0.5))
    b_starts = text.places(b_stretches, b_tokens + rng.binomial(b_drop, 0.5))
    return equal_rows(
        np.stack([a_starts, b_starts], 1).ravel(),
        np.stack([a_lengths - a_drop, b_lengths - b_drop], 1).ravel(),
        each=2,
        labels=chunks.random,
    )


def plan_ordered_pairs(text: Text, length: int, rng: np.random.Generator) -> PlannedRows:
    """Return one pass of pairs of segments that follow one another; of half of them, label 1, the order is swapped.

    Source: Lan et al. 2020, "ALBERT", section 3.1. Chunks are those of `plan_pairs`; one of a single sentence makes no
    pair.
    """
    chunks = walk(text, length, rng, ordered=True)
    several = chunks.stops - chunks.starts > 1
    stretches, swapped = chunks.stretches[several], chunks.random[several]
    bounds = [text.cumulative[place[several]] for place in (chunks.starts, chunks.middles, chunks.stops)]
    lengths = np.diff(bounds, axis=0)
    drops = truncation(lengths[0], lengths[1], length - 3)
    starts = [text.places(stretches, bounds[part] + rng.binomial(drops[part], 0.5)) for part in range(2)]
    order = np.stack([swapped, ~swapped]).astype(np.int64)
    return equal_rows(
        np.take_along_axis(np.stack(starts), order, 0).T.ravel(),
        np.take_along_axis(lengths - np.stack(drops), order, 0).T.ravel(),
        each=2,
        labels=swapped,
    )


def walk(text: Text, length: int, rng: np.random.Generator, *, ordered: bool = False) -> Chunks:
    """Return the chunks of one pass over a window: steps 1, 2 and the coin of step 3.

    With `ordered` no segment comes from elsewhere, so the walk goes on after each chunk; the coin is drawn as well.
    """
    room = length - 3
    at, ends = text.firsts[:-1].copy(), text.firsts[1:]
    active = np.arange(text.walked)
    rounds: list[tuple[np.ndarray, ...]] = []
    while active.size:
        start, count = at[active], active.size
        target = np.where(rng.random(count) < SHORT_SHARE, rng.integers(2, room + 1, count), room)
        reached = np.searchsorted(text.cumulative, text.cumulative[start] + target)
        stop = np.minimum(reached, ends[active])
        size = stop - start
        middle = start + np.where(size > 1, rng.integers(1, np.maximum(size, 2)), 1)
        random = (rng.random(count) < RANDOM_SHARE) | (size == 1)
        rounds.append((active, start, middle, stop, target, random))
        at[active] = stop if ordered else np.where(random, middle, stop)
        active = active[at[active] < ends[active]]
    return Chunks(*(np.concatenate(column) for column in zip(*rounds, strict=True)))


def truncation(a_lengths: np.ndarray, b_lengths: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens A and B lose until they fit, one at a time from the longer, from B on a tie."""
    excess = np.maximum(a_lengths + b_lengths - room, 0)
    lead = np.minimum(np.abs(a_lengths - b_lengths), excess)
    even = excess - lead
    a_longer = a_lengths > b_lengths
    return np.where(a_longer, lead, 0) + even // 2, np.where(a_longer, 0, lead) + (even + 1) // 2


def _draw_elsewhere(
    text: Text, own: np.ndarray, wanted: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (stretch, first token, length) of a run of sentences of another document than that of stretch `own`.

    A run has at least one sentence, and ends once it has `wanted` tokens or its stretch ends.
    """
    documents, numbers, counts = np.unique(text.documents, return_inverse=True, return_counts=True)
    other = rng.integers(0, len(documents) - 1, len(own)) if len(own) else np.zeros(0, dtype=np.int64)
    other += other >= numbers[own]
    grouped = np.argsort(numbers, kind="stable")
    firsts = np.cumsum(counts) - counts
    stretch = grouped[firsts[other] + rng.integers(0, counts[other])]
    low, high = text.firsts[stretch], text.firsts[stretch + 1]
    start = rng.integers(low, high)
    first = text.cumulative[start]
    reached = np.searchsorted(text.cumulative, first + np.maximum(wanted, 1))
    return stretch, first, text.cumulative[np.minimum(reached, high)] - first
