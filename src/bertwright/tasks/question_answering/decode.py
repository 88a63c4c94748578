"""Turns the start and end logits of windows into the best spans of each question, and how likely they are.

A span is worth the logit of its first token as a start plus that of its last as an end; no answer is worth both logits
of [CLS] (Devlin et al., 2018, sections 4.2 and 4.3). Every span of at most so many tokens is looked at, in every window
of a question: one pass over all tokens for each length a span may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bertwright.tasks.question_answering.windows import Windows

CHUNK_TOKENS = 16_384
"""Tokens looked at together: 128 kB of float64, of which a processor's second-level cache holds several."""


@dataclass(frozen=True)
class Spans:
    """A span of each of N questions.

    characters  [N, 2] int64    from and to, in the context; both 0 where the context has no tokens
    scores      [N] float64     start logit plus end logit; -inf where the context has no tokens
    """

    characters: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class BestSpans:
    """The best span that begins at each of the T tokens of some windows.

    scores  [T] float64   -inf where none may begin
    sizes   [T] int64     its tokens
    begins  [N] int64     where the tokens of each question's windows begin
    null_scores [N] float64   what no answer is worth: the least of the question's windows, any of which may hold one
    """

    windows: Windows
    scores: np.ndarray
    sizes: np.ndarray
    begins: np.ndarray
    null_scores: np.ndarray

    def best(self, most: int) -> list[Spans]:
        """Return the best span of each question, then the best that has no token with it in common, `most` in all."""
        scores, found = self.scores.copy(), []
        question = np.repeat(np.arange(len(self.begins)), np.diff(self.begins, append=len(scores)))
        first_places, last_places = self.windows.places, self.windows.places + self.sizes - 1
        for _ in range(most):
            first = _place_of_most(scores, self.begins)
            found.append(Spans(self._characters(first, known=np.isfinite(scores[first])), scores[first]))
            meets = (first_places <= last_places[first][question]) & (last_places >= first_places[first][question])
            scores[meets] = -np.inf
        return found

    def _characters(self, first: np.ndarray, *, known: np.ndarray) -> np.ndarray:
        """Return from and to [N, 2] of the best spans from tokens `first` [N]; 0 where none is known."""
        characters = np.zeros((len(first), 2), dtype=np.int64)
        begin, passages = first[known], self.windows.passages
        characters[known, 0] = passages.begins[self.windows.places[begin]]
        characters[known, 1] = passages.ends[self.windows.places[begin] + self.sizes[begin] - 1]
        return characters


def best_spans(logits: np.ndarray, windows: Windows, *, longest: int) -> BestSpans:
    """Return the best span from each token, of at most `longest` tokens; `logits` [T, 2] are starts and ends."""
    scores, sizes = np.full(len(logits), -np.inf), np.ones(len(logits), dtype=np.int64)
    for here in _chunks(windows):
        best, size_of = scores[here], sizes[here]
        for size, worth in _spans_of(logits, windows, here, longest=longest):
            better = worth > best[: len(worth)]
            np.copyto(best[: len(worth)], worth, where=better)
            size_of[: len(worth)][better] = size
    first_rows = np.flatnonzero(np.diff(windows.question, prepend=-1))
    null_scores = np.minimum.reduceat(logits[windows.begins].astype(np.float64).sum(-1), first_rows)
    return BestSpans(windows, scores, sizes, windows.begins[first_rows], null_scores)


def span_mass(logits: np.ndarray, spans: BestSpans, *, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (highest [N], mass [N]) of each question: the best score, and the sum of exp(score - best) of all spans.

    A span's probability is exp(its score - highest) / mass, plus what no answer adds to the mass where that is one.
    """
    highest = np.maximum.reduceat(spans.scores, spans.begins)
    highest = np.where(np.isfinite(highest), highest, spans.null_scores)
    shift = np.repeat(highest, np.diff(spans.begins, append=len(logits)))
    mass = np.zeros(len(logits))
    for here in _chunks(spans.windows):
        held, base = mass[here], shift[here]
        for _, worth in _spans_of(logits, spans.windows, here, longest=longest):
            held[: len(worth)] += np.exp(worth - base[: len(worth)])
    return highest, np.add.reduceat(mass, spans.begins)


def _chunks(windows: Windows) -> Iterator[slice]:
    """Yield the tokens of some rows at a time, few enough that what is computed of them stays in the cache."""
    ends = windows.begins + windows.lengths
    begin = 0
    while begin < ends[-1]:
        end = int(
            ends[max(np.searchsorted(ends, begin + CHUNK_TOKENS, side="right") - 1, np.searchsorted(ends, begin + 1))]
        )
        yield slice(begin, end)
        begin = end


def _spans_of(logits: np.ndarray, windows: Windows, here: slice, *, longest: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield each size and what the spans of so many of the tokens `here` are worth, from each of them, -inf if none."""
    pieces = logits[here].astype(np.float64)
    start, end = np.where(windows.counted[here], pieces[:, 0], -np.inf), pieces[:, 1].copy()
    stops = np.where(windows.places[here] < 0, np.arange(len(pieces)), len(pieces))
    room = np.minimum.accumulate(stops[::-1])[::-1] - np.arange(len(pieces))
    longest = min(longest, int(room.max(initial=0)))
    for size in range(1, longest + 1):
        begun = len(pieces) - size + 1
        worth = start[:begun] + end[size - 1 :]
        worth[room[:begun] < size] = -np.inf
        yield size, worth


def _place_of_most(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Return where the first of the largest of each chunk of `values` stands, the chunks beginning at `begins`."""
    most = np.maximum.reduceat(values, begins)
    chunk = np.repeat(np.arange(len(begins)), np.diff(begins, append=len(values)))
    at = np.flatnonzero(values == most[chunk])
    _, firsts = np.unique(chunk[at], return_index=True)
    found: np.ndarray = at[firsts]
    return found
