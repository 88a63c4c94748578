"""Turns a text or a pair into the row a model reads, with the word each token belongs to and where that stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import InputError
from bertwright.inference.text_rows import MASK
from bertwright.tasks.tagging.reader import TaggedSentences
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.word_starts import WordRule, word_rule


@dataclass(frozen=True)
class Word:
    """A word of a row: its tokens' positions, and the characters of text `text` (0 or 1) that it stands at."""

    tokens: tuple[int, ...]
    text: int
    start: int
    end: int


@dataclass(frozen=True)
class WordRow:
    """A row of S tokens, [CLS] A [SEP] or [CLS] A [SEP] B [SEP], as the tokenizer joins them.

    ids    [S] int64
    types  [S] int64
    texts  the text or the pair, [MASK] written as the tokenizer does
    words  in order; tokens of none are special
    mask   the id of [MASK]
    """

    ids: Tensor
    types: Tensor
    texts: tuple[str, ...]
    words: tuple[Word, ...]
    mask: int

    @cached_property
    def special(self) -> Tensor:
        """[S] bool: True where no word stands."""
        found = torch.ones(len(self.ids), dtype=torch.bool)
        found[[place for word in self.words for place in word.tokens]] = False
        return found

    @property
    def masks(self) -> list[int]:
        """Positions of [MASK]."""
        return torch.nonzero(self.ids == self.mask).flatten().tolist()

    def hidden(self, words: Sequence[int]) -> WordRow:
        """Return the row with some words masked, a [MASK] for each of their tokens."""
        ids = self.ids.clone()
        for number in words:
            ids[list(self.words[number].tokens)] = self.mask
        return replace(self, ids=ids)

    def filled(self, tokens: Sequence[int]) -> WordRow:
        """Return the row with a token in the place of each [MASK]."""
        ids = self.ids.clone()
        ids[self.masks] = torch.tensor(list(tokens), dtype=torch.int64)
        return replace(self, ids=ids)

    def surface(self, word: Word) -> str:
        """Return a word as it is written."""
        return self.texts[word.text][word.start : word.end]


def word_row(texts: Sequence[str], tokenizer: Tokenizer, *, max_length: int) -> WordRow:
    """Return the row of one text or two; raises InputError where it is longer than `max_length` tokens."""
    special, frame = tokenizer.special, tokenizer.pair_frame
    ids, types, words, shown = [special.cls], [0], [], []
    for number, text in enumerate(texts):
        if number:
            ids += [special.sep] * (frame.separators - 1)
            types += [frame.second_type] * (frame.separators - 1)
        text, pieces, spans = _pieces(text, tokenizer)
        words += _words(pieces, spans, first=len(ids), text=number, tokenizer=tokenizer)
        ids += [*pieces, special.sep]
        types += [frame.second_type if number else 0] * (len(pieces) + 1)
        shown.append(text)
    if len(ids) > max_length:
        raise InputError(
            f'"{texts[0][:40]}..." is {len(ids):,} tokens long, and up to {max_length} can be shown; shorten it'
        )
    return WordRow(torch.tensor(ids), torch.tensor(types), tuple(shown), tuple(words), special.mask)


def tagged_row(rows: LabelledRows, examples: TaggedSentences, tokenizer: Tokenizer) -> WordRow:
    """Return the row of one text as a tagger reads it, with the words it was cut into; InputError if it has several."""
    assert examples.texts is not None
    assert examples.spans is not None
    assert rows.positions is not None
    if len(rows) > 1:
        raise InputError(f'"{examples.texts[0][:40]}..." is longer than the model reads at once; shorten it')
    ends = [*rows.positions[1:].tolist(), len(rows.ids) - 1]
    words = [
        Word(tuple(range(begin, end)), 0, start, stop)
        for begin, end, (start, stop) in zip(rows.positions.tolist(), ends, examples.spans.tolist(), strict=True)
    ]
    ids = torch.from_numpy(rows.ids.astype(np.int64))
    return WordRow(ids, torch.zeros_like(ids), tuple(examples.texts), tuple(words), tokenizer.special.mask)


def words_in(row: WordRow, span: Mapping[str, Any], *, text: int = 0) -> list[int]:
    """Return the numbers of the words that share a character with a "start" to "end" of a text."""
    return [
        number
        for number, word in enumerate(row.words)
        if word.text == text and word.start < span["end"] and span["start"] < word.end
    ]


def _pieces(text: str, tokenizer: Tokenizer) -> tuple[str, list[int], list[tuple[int, int]]]:
    """Return a text with the tokenizer's own mask in it, its token ids, and the characters of each."""
    mask = tokenizer.tokens[tokenizer.special.mask]
    text = text.replace(MASK, mask)
    if mask in tokenizer.reserved:
        found = tokenizer.backend.encode(text, add_special_tokens=False)
        return text, found.ids, found.offsets
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    begin = 0
    for number, part in enumerate(text.split(mask)):
        if number:
            ids.append(tokenizer.special.mask)
            spans.append((begin, begin + len(mask)))
            begin += len(mask)
        found = tokenizer.backend.encode(part, add_special_tokens=False)
        ids += found.ids
        spans += [(begin + start, begin + end) for start, end in found.offsets]
        begin += len(part)
    return text, ids, spans


def _words(ids: list[int], spans: list[tuple[int, int]], *, first: int, text: int, tokenizer: Tokenizer) -> list[Word]:
    """Return the words of a text whose first token stands at `first`; each [MASK] is one of its own."""
    if not ids:
        return []
    values = np.array(ids, dtype=np.int64)
    starts = _rule(tokenizer).starts(Ragged(values, np.array([len(ids)])))
    masked = values == tokenizer.special.mask
    starts = starts | masked | np.concatenate([[False], masked[:-1]])[: len(ids)]
    begins = np.flatnonzero(starts).tolist()
    return [
        Word(tuple(range(first + begin, first + end)), text, spans[begin][0], spans[end - 1][1])
        for begin, end in zip(begins, [*begins[1:], len(ids)], strict=True)
    ]


@lru_cache(maxsize=4)
def _rule(tokenizer: Tokenizer) -> WordRule:
    return word_rule(tokenizer)
