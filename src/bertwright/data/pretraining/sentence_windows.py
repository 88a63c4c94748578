"""Turns shards into windows of text small enough to plan at once, in an order that needs no planning of the others.

    shards -> blocks (about 1M tokens, consecutive) -> windows (about 16M tokens, blocks in a drawn order) -> Text

A corpus smaller than a window is one window an epoch. What is kept for the whole corpus is five numbers a block; what
is loaded for a window is eight bytes a sentence, whatever the size of the corpus.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from bertwright.corpus.shards import Shard, Shards
from bertwright.errors import DataError

BLOCK_TOKENS = 1 << 20
WINDOW_TOKENS = 1 << 24
STRETCH_TOKENS = 1 << 15


@dataclass(frozen=True)
class Text:
    """The sentences of one window, without their tokens: U stretches (documents, or parts of long ones), N sentences.

    documents   [U] int64      document of each stretch, numbered over the split
    positions   [U] int64      place of its first token, counted over all tokens of the split
    firsts      [U + 1] int64  its first sentence, counted over the window; the last entry is N
    cumulative  [N + 1] int64  tokens before each sentence, counted over the window
    walked      rows are made of the first `walked` stretches; any others are only there to be drawn from
    """

    documents: np.ndarray
    positions: np.ndarray
    firsts: np.ndarray
    cumulative: np.ndarray
    walked: int

    def places(self, stretches: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return where tokens counted over the window (inside `stretches`) stand among all tokens of the split."""
        shift = self.positions - self.cumulative[self.firsts[:-1]]
        places: np.ndarray = tokens + shift[stretches]
        return places


def join_texts(texts: list[Text], *, walked: int | None = None) -> Text:
    """Return several texts as one; `walked` defaults to all of their stretches."""
    sentences = np.cumsum([0] + [len(text.cumulative) - 1 for text in texts])
    tokens = np.cumsum([0] + [int(text.cumulative[-1]) for text in texts])
    stretches = sum(len(text.documents) for text in texts)
    return Text(
        documents=np.concatenate([text.documents for text in texts]),
        positions=np.concatenate([text.positions for text in texts]),
        firsts=np.concatenate(
            [text.firsts[:-1] + base for text, base in zip(texts, sentences, strict=False)] + [sentences[-1:]]
        ),
        cumulative=np.concatenate(
            [text.cumulative[:-1] + base for text, base in zip(texts, tokens, strict=False)] + [tokens[-1:]]
        ),
        walked=stretches if walked is None else walked,
    )


class Blocks:
    """All text of a split as blocks of consecutive sentences; a document is cut only where it is longer than a stretch.

    `token_counts` [K] int64: tokens of each block.
    """

    def __init__(self, shards: Shards, *, block_tokens: int, stretch_tokens: int) -> None:
        """Find the bounds of the blocks; raises DataError where the split holds no text."""
        if shards.token_count == 0:
            raise DataError("the data holds no tokens; prepare it again from input that has text")
        self.shards = shards
        self.stretch_tokens = stretch_tokens
        self.shard_positions = np.cumsum([0] + [len(shard.tokens) for shard in shards.shards])
        bounds: list[tuple[int, int, int, int, int]] = []
        for index, shard in enumerate(shards.shards):
            edges = [_edge(shard, at, stretch_tokens) for at in range(0, len(shard.tokens), block_tokens)]
            edges.append((len(shard.sentence_ends), len(shard.tokens)))
            bounds += [(index, low[0], high[0], low[1], high[1]) for low, high in pairwise(edges) if high[1] > low[1]]
        self._bounds = np.array(bounds, dtype=np.int64)
        self.token_counts = self._bounds[:, 4] - self._bounds[:, 3]

    def __len__(self) -> int:
        """Number of blocks."""
        return len(self._bounds)

    def text(self, block: int) -> Text:
        """Return one block, cut into stretches."""
        index, first, stop, low, _high = (int(value) for value in self._bounds[block])
        shard = self.shards.shards[index]
        documents, starts = _documents_between(shard, first, stop)
        counts = np.diff(np.append(starts, stop))
        ends = shard.sentence_ends[first:stop].astype(np.int64)
        ends += np.repeat(shard.token_offsets[documents].astype(np.int64) - low, counts)
        cumulative = np.concatenate([np.zeros(1, dtype=np.int64), ends])
        firsts, owners = _cut_long(starts - first, cumulative, self.stretch_tokens)
        return Text(
            documents=documents[owners] + self.shards.first_document[index],
            positions=self.shard_positions[index] + low + cumulative[firsts[:-1]],
            firsts=firsts,
            cumulative=cumulative,
            walked=len(owners),
        )

    def window(self, blocks: np.ndarray) -> Text:
        """Return several blocks as one text; where they hold one document only, another block is there to draw from."""
        text = join_texts([self.text(int(block)) for block in blocks])
        if text.documents.min() != text.documents.max():
            return text
        other_block = self._block_besides(int(text.documents[0]))
        return text if other_block is None else join_texts([text, self.text(other_block)], walked=len(text.documents))

    def _block_besides(self, document: int) -> int | None:
        for block, (index, first, stop, _low, _high) in enumerate(self._bounds):
            documents, _starts = _documents_between(self.shards.shards[index], int(first), int(stop))
            if np.any(documents + self.shards.first_document[index] != document):
                return block
        return None


def _edge(shard: Shard, at: int, stretch_tokens: int) -> tuple[int, int]:
    """Return (sentence, token) of the first place at or after token `at` where a block may begin."""
    document = _search(shard.token_offsets, at, side="right") - 1
    low, high = int(shard.token_offsets[document]), int(shard.token_offsets[document + 1])
    if low == at:
        return int(shard.sentence_offsets[document]), low
    if high - low <= stretch_tokens:
        return int(shard.sentence_offsets[document + 1]), high
    first = int(shard.sentence_offsets[document])
    ends = shard.sentence_ends[first : int(shard.sentence_offsets[document + 1])]
    sentence = _search(ends, at - low)
    return first + sentence + 1, low + int(ends[sentence])


def _documents_between(shard: Shard, first: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the documents of sentences [first:stop] of a shard, and the first of these sentences in each."""
    low = _search(shard.sentence_offsets, first, side="right") - 1
    high = _search(shard.sentence_offsets, stop)
    return np.arange(low, high), np.maximum(shard.sentence_offsets[low:high].astype(np.int64), first)


def _search(ordered: np.ndarray, value: int, *, side: Literal["left", "right"] = "left") -> int:
    """Return where `value` falls in a mapped array; in the array's own type, as another would copy it whole."""
    return int(np.searchsorted(ordered, ordered.dtype.type(value), side=side))


def _cut_long(starts: np.ndarray, cumulative: np.ndarray, stretch_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut parts that begin at sentences `starts` into even stretches; return (first sentences, part of each)."""
    bounds = cumulative[np.append(starts, len(cumulative) - 1)]
    cuts = [starts]
    for part in np.flatnonzero(np.diff(bounds) > stretch_tokens):
        size = bounds[part + 1] - bounds[part]
        pieces = -(-size // stretch_tokens)
        inner = np.searchsorted(cumulative, bounds[part] + size * np.arange(1, pieces) // pieces)
        cuts.append(inner[(cumulative[inner] > bounds[part]) & (cumulative[inner] < bounds[part + 1])])
    firsts = np.unique(np.concatenate(cuts))
    owners = np.searchsorted(starts, firsts, side="right") - 1
    return np.append(firsts, len(cumulative) - 1), owners
