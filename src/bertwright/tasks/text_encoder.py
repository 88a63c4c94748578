"""Turns texts into rows of token ids, all of them at once: bulk encoding, cutting and framing without a loop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ConfigError
from bertwright.log import note
from bertwright.tokenizer.bulk import BulkEncoder
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.ragged import Ragged, ranges
from bertwright.tokenizer.word_starts import wants_leading_blank

PROOF = 2000
"""Texts on which the fast encoder must equal the reference."""
FEWEST = 256
"""Texts below which the proof takes longer than the reference."""


class TextEncoder:
    """A tokenizer, the longest row a model reads, and the prompt it wants before every text, if any."""

    def __init__(self, tokenizer: Tokenizer, *, max_length: int, prompt: str = "") -> None:
        """Start with the reference encoder; the first texts prove the fast one."""
        self.tokenizer, self.max_length, self.prompt = tokenizer, max_length, prompt
        self.cut = 0
        """Texts and pairs cut so far."""
        self._bulk = BulkEncoder(tokenizer)
        self._proved = False

    def encode(self, texts: Sequence[str]) -> Ragged:
        """Return (ids [T] uint32, counts [N] int64) of N texts, without special tokens."""
        if self.prompt:
            texts = [self.prompt + text for text in texts]
        if not self._proved and len(texts) >= FEWEST:
            self._bulk.prove(list(texts[:: max(1, len(texts) // PROOF)]))
            self._proved = True
        return self._bulk.encode(list(texts))

    def rows(
        self, first: Sequence[str], second: Sequence[str] | None, targets: np.ndarray, *, quiet: bool = False
    ) -> LabelledRows:
        """Return a row for each text or pair, with its target at [CLS]; what is past the longest row is cut, and noted.

        The longer text of a pair is cut first, as Hugging Face tokenizers do.
        """
        left = self.encode(first)
        right = None if second is None else self.encode(second)
        ids, lengths, first_lengths, cut = self.frame(left, right)
        self.cut += cut
        if cut and not quiet:
            kind = "texts" if second is None else "pairs"
            note(f"{cut:,} of {len(first):,} {kind} are longer than {self.max_length} tokens and were cut")
        return LabelledRows(
            ids=ids,
            lengths=lengths,
            first_lengths=first_lengths,
            positions=np.zeros(len(first), dtype=np.int64),
            num_targets=np.ones(len(first), dtype=np.int64),
            targets=targets,
            pad=self.tokenizer.special.pad,
        )

    def windows_of(self, texts: Sequence[str], *, overlap: int) -> LabelledRows:
        """Return rows of windows of texts, one of [CLS] ... [SEP] or several, `together`; their targets are 0.

        Two windows share at least `overlap` tokens; the last one of a text is as long as a row. Raises ConfigError
        where a window is no longer than that.
        """
        ids, lengths = self.encode(texts)
        room = self.max_length - 2
        if overlap >= room:
            raise ConfigError(f"head.window_overlap: windows of {room} tokens cannot share {overlap}; give fewer")
        counts = 1 + np.maximum(0, -(-(lengths - room) // (room - overlap)))
        owner = np.repeat(np.arange(len(texts)), counts)
        number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        begins = np.minimum(number * (room - overlap), np.maximum(0, lengths[owner] - room))
        sizes = np.minimum(room, lengths[owner])
        values = ids[ranges((np.cumsum(lengths) - lengths)[owner] + begins, sizes)]
        framed, row_lengths, first_lengths, _ = self.frame(Ragged(values, sizes), None)
        return LabelledRows(
            ids=framed,
            lengths=row_lengths,
            first_lengths=first_lengths,
            positions=np.zeros(len(owner), dtype=np.int64),
            num_targets=np.ones(len(owner), dtype=np.int64),
            targets=np.zeros(len(owner), dtype=np.int64),
            pad=self.tokenizer.special.pad,
            together=counts,
        )

    def word_rows(self, words: Sequence[str], counts: np.ndarray, targets: np.ndarray) -> LabelledRows:
        """Return rows of sentences of `counts` [N] words, with a target at the first piece of each word.

        Words are encoded one by one, as `is_split_into_words` does in transformers; one that leaves nothing is [UNK].
        A sentence past the longest row goes on in the next one from a whole word, and that is noted.
        """
        ids, pieces = self._words(words)
        room = self.max_length - 2
        row_counts, split = windows(pieces, counts, room=room)
        if split:
            note(f"{split:,} of {len(counts):,} sentences are longer than {self.max_length} tokens and were split")
        ends = np.cumsum(row_counts)
        totals = np.cumsum(np.concatenate([[0], pieces]))
        row_pieces = totals[ends] - totals[ends - row_counts]
        framed, lengths, first_lengths, _ = self.frame(Ragged(ids, row_pieces), None)
        begins = totals[:-1] - np.repeat(totals[ends - row_counts], row_counts)
        return LabelledRows(
            ids=framed,
            lengths=lengths,
            first_lengths=first_lengths,
            positions=begins + 1,
            num_targets=row_counts,
            targets=targets,
            pad=self.tokenizer.special.pad,
        )

    def _words(self, words: Sequence[str]) -> Ragged:
        """Return the pieces of each word, at least one and at most a row of them."""
        blank = " " if wants_leading_blank(self.tokenizer) else ""
        encoded = self.encode([blank + word for word in words] if blank else words)
        nothing = np.flatnonzero(encoded.lengths == 0)
        if len(nothing):
            unknown = np.full(len(nothing), self.tokenizer.special.unk, dtype=encoded.values.dtype)
            encoded = encoded.replace(nothing, Ragged(unknown, np.ones(len(nothing), dtype=np.int64)))
        ids, pieces = encoded
        kept = np.minimum(pieces, self.max_length - 2)
        if not np.array_equal(kept, pieces):
            within = np.arange(len(ids)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
            ids = ids[within < np.repeat(kept, pieces)]
        return Ragged(ids, kept)

    def frame(self, left: Ragged, right: Ragged | None) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Return ids, lengths and first lengths of [CLS] A [SEP] or [CLS] A [SEP] B [SEP], and how many were cut.

        Tokenizers that put two separators between texts get two. The second text counts as first where its token type
        is that of the first.
        """
        special, pair = self.tokenizer.special, self.tokenizer.pair_frame
        a, b = left[1], np.zeros_like(left[1]) if right is None else right[1]
        room = self.max_length - (2 if right is None else 2 + pair.separators)
        kept_a, kept_b = longest_first(a, b, room=room)
        second = kept_a + 1 + pair.separators
        lengths = kept_a + 2 if right is None else second + kept_b + 1
        ids = np.full(int(lengths.sum()), special.sep, dtype=np.uint32)
        begins = np.cumsum(lengths) - lengths
        ids[begins] = special.cls
        _put(ids, begins + 1, left, kept_a)
        if right is not None:
            _put(ids, begins + second, right, kept_b)
        first_lengths = kept_a + 2 if pair.second_type else lengths
        return ids, lengths, first_lengths, int(np.count_nonzero(kept_a + kept_b < a + b))


def windows(pieces: np.ndarray, counts: np.ndarray, *, room: int) -> tuple[np.ndarray, int]:
    """Cut sentences of `counts` [N] words to `room` pieces; return the words of each row [R], and how many were cut.

    `pieces` [W] are those of each word, none more than `room`; only sentences that are too long are looked at singly.
    """
    totals = np.cumsum(np.concatenate([[0], pieces]))
    ends = np.cumsum(counts)
    long = np.flatnonzero(totals[ends] - totals[ends - counts] > room).tolist()
    rows: list[np.ndarray] = []
    done = 0
    for place in long:
        rows.append(counts[done:place])
        begin, end = int(ends[place] - counts[place]), int(ends[place])
        cut: list[int] = []
        while begin < end:
            until = min(end, int(np.searchsorted(totals, totals[begin] + room, side="right")) - 1)
            cut.append(until - begin)
            begin = until
        rows.append(np.array(cut, dtype=counts.dtype))
        done = place + 1
    return np.concatenate([*rows, counts[done:]]), len(long)


def longest_first(a: np.ndarray, b: np.ndarray, *, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Return how many tokens of pairs of `a` [N] and `b` [N] tokens are kept, so that they fit into `room`.

    The shorter is cut only where both are longer than half; of an odd room the longer one gets more (the second, where
    they are equal). That is `longest_first` of Hugging Face tokenizers.
    """
    shorter = np.minimum(a, b)
    small = np.minimum(shorter, room // 2)
    large = np.minimum(np.maximum(a, b), room - small)
    fits = a + b <= room
    a_is_large = a > b
    kept_a = np.where(fits, a, np.where(a_is_large, large, small))
    kept_b = np.where(fits, b, np.where(a_is_large, small, large))
    return kept_a, kept_b


def _put(ids: np.ndarray, begins: np.ndarray, rows: Ragged, kept: np.ndarray) -> None:
    """Write the first `kept` [N] tokens of each row into `ids` from `begins` [N] on."""
    values, counts = rows
    ids[ranges(begins, kept)] = values[ranges(np.cumsum(counts) - counts, kept)]
