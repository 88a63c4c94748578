"""Turns questions and long contexts into rows: overlapping windows of a context, each behind its question.

A context is encoded once however many questions it has, with the characters of each token; everything after that is
arithmetic over flat arrays. Windows overlap by `stride` tokens, as those of Hugging Face tokenizers do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.log import note
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged, ranges

CONTEXTS = 512
"""Contexts encoded at once: the objects that hold their offsets are large."""


@dataclass(frozen=True)
class Passages:
    """The tokens of P contexts, C in all, and where they stand.

    ids [C] uint32, counts [P] int64      as in `Ragged`
    begins, ends [C] int64                characters of its context each token stands at
    sizes [P] int64                       characters of each context
    """

    ids: np.ndarray
    counts: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    sizes: np.ndarray

    @cached_property
    def firsts(self) -> np.ndarray:
        """Where the tokens of each context begin, int64 [P]."""
        return np.asarray(np.cumsum(self.counts) - self.counts)

    def tokens_at(self, contexts: np.ndarray, spans: np.ndarray) -> np.ndarray:
        """Return the first and last token [N, 2] of character spans [N, 2] of contexts [N], counted over all contexts.

        The characters of all contexts are laid on one line, a gap between, and looked up there.
        """
        base = np.cumsum(self.sizes + 1) - self.sizes - 1
        line = np.repeat(base, self.counts)
        first = np.searchsorted(self.ends + line, spans[:, 0] + base[contexts], side="right")
        last = np.searchsorted(self.begins + line, spans[:, 1] + base[contexts], side="left") - 1
        return np.stack([first, last], axis=1)


@dataclass(frozen=True)
class Windows:
    """Where the T tokens of R rows come from.

    question    [R] int64  which question each row asks, ascending
    lengths     [R] int64  tokens of each row
    places      [T] int64  which token of `passages` each is, -1 for those of the question and special ones
    counted     [T] bool   whether an answer may begin here: each token of a context in the window that shows the most
                           around it (as in the reference code of Devlin et al., 2018)
    targets     [R, 2]     first and last token of the answer in the row; 0, that is [CLS], where it has none
    """

    question: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    counted: np.ndarray
    targets: np.ndarray
    passages: Passages

    @cached_property
    def begins(self) -> np.ndarray:
        """Where the tokens of each row begin, int64 [R]."""
        return np.asarray(np.cumsum(self.lengths) - self.lengths)


def encode_contexts(tokenizer: Tokenizer, contexts: Sequence[str]) -> Passages:
    """Return the tokens of contexts and their characters, by the reference tokenizer: tokie gives no characters."""
    ids: list[np.ndarray] = []
    offsets: list[np.ndarray] = []
    for begin in range(0, len(contexts), CONTEXTS):
        encoded = tokenizer.backend.encode_batch(list(contexts[begin : begin + CONTEXTS]), add_special_tokens=False)
        ids += [np.array(one.ids, dtype=np.uint32) for one in encoded]
        offsets += [
            np.array(_with_accents(context, one.offsets), dtype=np.int64).reshape(-1, 2)
            for context, one in zip(contexts[begin : begin + CONTEXTS], encoded, strict=True)
        ]
    flat = np.concatenate(offsets)
    return Passages(
        ids=np.concatenate(ids),
        counts=np.array([len(one) for one in ids], dtype=np.int64),
        begins=flat[:, 0],
        ends=flat[:, 1],
        sizes=np.array([len(context) for context in contexts], dtype=np.int64),
    )


def _with_accents(context: str, offsets: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the characters of tokens with the accents behind them that belong to no token.

    A tokenizer that drops accents ends a token before an accent written as a character of its own (Unicode's NFD), and
    so an answer would lose the last one of its word.

    >>> _with_accents("ete\u0301", [(0, 3)])
    [(0, 4)]
    """
    if context.isascii():
        return offsets
    begins = {begin for begin, _ in offsets}
    extended = []
    for begin, end in offsets:
        while end < len(context) and end not in begins and unicodedata.category(context[end]) == "Mn":
            end += 1
        extended.append((begin, end))
    return extended


def cut_windows(
    contexts: np.ndarray, questions: np.ndarray, *, length: int, stride: int, special: int = 3
) -> tuple[np.ndarray, ...]:
    """Return question [R], begin [R] and size [R] of the windows of contexts of `contexts` [N] tokens.

    A row of `length` tokens holds a question of `questions` [N] tokens, `special` ones and a window; windows overlap by
    `stride` tokens, or by half a window where that is less.
    """
    room = length - special - questions
    step = room - np.minimum(stride, room // 2)
    counts = 1 + np.maximum(0, -((room - contexts) // step))
    question = np.repeat(np.arange(len(contexts)), counts)
    begin = (np.arange(len(question)) - np.repeat(np.cumsum(counts) - counts, counts)) * step[question]
    return question, begin, np.minimum(room[question], contexts[question] - begin)


def window_rows(
    questions: Sequence[str],
    contexts: Sequence[str],
    context_of: np.ndarray,
    spans: np.ndarray,
    encoder: TextEncoder,
    *,
    length: int,
    stride: int,
    question_share: float,
) -> tuple[LabelledRows, Windows]:
    """Return the rows of questions about contexts, and where their tokens come from.

    `spans` [N, 2] are the characters of the answers, -1 where there is none. A question is cut to `question_share` of
    a row of `length` tokens.
    """
    passages = encode_contexts(encoder.tokenizer, contexts)
    encoded = encoder.encode([question.strip() for question in questions])
    kept = np.minimum(encoded[1], int(question_share * length))
    pair = encoder.tokenizer.pair_frame
    row, begin, size = cut_windows(
        passages.counts[context_of], kept, length=length, stride=stride, special=2 + pair.separators
    )
    note_cut(encoded[1], kept, row, length=length)
    window_begins = passages.firsts[context_of[row]] + begin
    ids, lengths, places = _framed(encoded, kept[row], row, passages, window_begins, size, encoder.tokenizer)
    context_at = kept[row] + 1 + pair.separators
    tokens = np.where(spans >= 0, passages.tokens_at(context_of, np.maximum(spans, 0)), -1)[row]
    inside = (tokens[:, 0] >= window_begins) & (tokens[:, 1] < window_begins + size) & (tokens[:, 0] <= tokens[:, 1])
    targets = np.where(inside[:, None], tokens - window_begins[:, None] + context_at[:, None], 0)
    counted = np.zeros(len(ids), dtype=bool)
    counted[places >= 0] = _best_shown(row, begin, size)
    rows = LabelledRows(
        ids=ids,
        lengths=lengths,
        first_lengths=kept[row] + 2 if pair.second_type else lengths,
        positions=None,
        num_targets=lengths,
        targets=targets,
        pad=encoder.tokenizer.special.pad,
    )
    return rows, Windows(row, lengths, places, counted, targets, passages)


def note_cut(tokens: np.ndarray, kept: np.ndarray, row: np.ndarray, *, length: int) -> None:
    """Say how many of N questions were cut from `tokens` [N] to `kept` [N] tokens, and how many have several rows."""
    cut, several = np.count_nonzero(kept < tokens), np.count_nonzero(np.bincount(row) > 1)
    if cut:
        note(f"{cut:,} of {len(tokens):,} questions are longer than {kept.max():,} tokens and were cut")
    if several:
        note(
            f"{several:,} of {len(tokens):,} questions have a context that is longer than a row of {length:,} tokens: "
            "read in windows"
        )


def _framed(
    questions: Ragged,
    kept: np.ndarray,
    row: np.ndarray,
    passages: Passages,
    window_begins: np.ndarray,
    size: np.ndarray,
    tokenizer: Tokenizer,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the ids [T] of [CLS] question [SEP] window [SEP], row after row, lengths [R] and `Windows.places` [T].

    There are two separators between, where the tokenizer puts two.
    """
    separators = tokenizer.pair_frame.separators
    lengths = kept + size + 2 + separators
    begins = np.cumsum(lengths) - lengths
    ids = np.full(int(lengths.sum()), tokenizer.special.sep, dtype=np.uint32)
    places = np.full(len(ids), -1, dtype=np.int64)
    ids[begins] = tokenizer.special.cls
    ids[ranges(begins + 1, kept)] = questions[0][ranges((np.cumsum(questions[1]) - questions[1])[row], kept)]
    here, there = ranges(begins + kept + 1 + separators, size), ranges(window_begins, size)
    ids[here], places[here] = passages.ids[there], there
    return ids, lengths, places


def _best_shown(row: np.ndarray, begin: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return for every token of every window whether no other window of its question shows more around it, bool.

    How much it shows is the lesser of the tokens to either side, then the size of the window, then the first of them.
    """
    within = ranges(np.zeros_like(size), size)
    around = np.minimum(within, np.repeat(size, size) - 1 - within)
    totals = np.zeros(int(row[-1]) + 1, dtype=np.int64)
    np.maximum.at(totals, row, begin + size)
    token = ranges((np.cumsum(totals) - totals)[row] + begin, size)
    order = np.arange(len(row)) - np.searchsorted(row, row)
    worth = (100 * around + np.repeat(size, size)) * (int(order.max()) + 1) - np.repeat(order, size)
    best = np.full(int(totals.sum()), np.iinfo(np.int64).min)
    np.maximum.at(best, token, worth)
    shown: np.ndarray = best[token] == worth
    return shown
