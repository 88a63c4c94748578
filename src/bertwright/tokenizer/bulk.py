"""Turns many sentences into one flat array of token ids, fast where that is proved equal to the reference.

tokie encodes WordPiece some 16 times faster than tokenizers and gives the same ids on real text, but its Unicode
tables are another version's: characters that are unassigned or new, a few marks and dashes come out differently. So
nothing is taken on trust. A sample of the corpus is encoded by both before anything is written, every character is
tried in both before its first use, and a sentence holding one that differs goes to the reference.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokie

from bertwright.errors import is_native_failure, is_panic
from bertwright.tokenizer.alphabet import CODE_POINTS, code_points
from bertwright.tokenizer.load import FILE, Tokenizer
from bertwright.tokenizer.ragged import Ragged

UNTRIED, EQUAL, DIFFERENT = 0, 1, 2
CONTEXTS = ("{0}", "ab{0}cd", "a {0} b", "{0}{0}", "中{0}中")
MOST_DIFFERENT = 0.05
LONG_WORDS = ("", " ", "  a  b ", *("a" * length for length in (99, 100, 101, 300)), "a-" * 200, "9" * 150 + " end")


class BulkEncoder:
    """Encodes lists of sentences with one tokenizer, without special tokens.

    >>> # needs a tokenizer
    >>> encoder = BulkEncoder(tokenizer)  # doctest: +SKIP
    >>> encoder.prove(sample)  # None: tokie may be used; otherwise the reason why not  # doctest: +SKIP
    >>> ids, counts = encoder.encode(["A sentence.", "Another one."])  # doctest: +SKIP
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start with the reference encoder; `prove` switches to tokie."""
        self.statement = "tokenizers"
        self._backend = tokenizer.backend
        self._tokenizer = tokenizer
        self._fast: Any = None
        self._tried = np.full(CODE_POINTS, UNTRIED, dtype=np.uint8)

    def prove(self, sample: Sequence[str]) -> str | None:
        """Use tokie from now on if it equals tokenizers on `sample`; otherwise return the reason and stay with those.

        `statement` then says in words which encoder is used and on what grounds.
        """
        self._fast, reason = _load(self._tokenizer)
        if self._fast is not None:
            try:
                self._try_new(np.arange(128))
                reason = self._difference([*sample, *LONG_WORDS])
            except BaseException as error:
                if not is_panic(error):
                    raise
                reason = "tokie gives up on this tokenizer"
        if reason is None:
            self.statement = f"tokie, proved equal on {len(sample):,} sentences"
        else:
            self._fast = None
            self.statement = f"tokenizers: {reason}"
        return reason

    def encode(self, sentences: list[str]) -> Ragged:
        """Return the token ids, [T] uint32, of N sentences."""
        if self._fast is None:
            return self._reference(sentences)
        try:
            return self._mixed(sentences)
        except BaseException as error:  # tokie panics at what it cannot do; the reference may do it
            if not is_panic(error):
                raise
            return self._reference(sentences)

    def _mixed(self, sentences: list[str]) -> Ragged:
        """Return what tokie makes of the sentences, and the reference of those in which tokie differs."""
        odd = self._with_different_characters(sentences)
        quick = self._quick(sentences)
        return quick.replace(odd, self._reference([sentences[i] for i in odd.tolist()])) if len(odd) else quick

    def _difference(self, sample: list[str]) -> str | None:
        odd = self._with_different_characters(sample)
        if len(odd) > MOST_DIFFERENT * len(sample):
            return f"tokie treats common characters differently, as in {sample[int(odd[0])][:60]!r}"
        differing = np.flatnonzero(~self._mixed(sample).equals(self._reference(sample)))
        return f"tokie differs at {sample[int(differing[0])][:60]!r}" if len(differing) else None

    def _quick(self, sentences: list[str]) -> Ragged:
        ids, counts = self._fast.encode_batch_flat(sentences, False)
        return Ragged(ids, counts.astype(np.int64))

    def _reference(self, sentences: list[str]) -> Ragged:
        encoded = [e.ids for e in self._backend.encode_batch_fast(sentences, add_special_tokens=False)]
        counts = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        ids = np.fromiter((i for row in encoded for i in row), dtype=np.uint32, count=int(counts.sum()))
        return Ragged(ids, counts)

    def _with_different_characters(self, sentences: list[str]) -> np.ndarray:
        """Return the indices of the sentences that hold a character which tokie treats differently."""
        suspect = ~np.fromiter(map(str.isascii, sentences), dtype=bool, count=len(sentences))
        odd_ascii = [chr(point) for point in np.flatnonzero(self._tried[:128] == DIFFERENT).tolist()]
        everything = "".join(sentences) if odd_ascii else ""
        for character in odd_ascii:
            if character in everything:
                suspect |= np.fromiter((character in s for s in sentences), dtype=bool, count=len(sentences))
        candidates = np.flatnonzero(suspect)
        chosen = [sentences[index] for index in candidates.tolist()]
        points = code_points("".join(chosen))
        self._try_new(points)
        places = np.flatnonzero(self._tried[points] == DIFFERENT)
        ends = np.cumsum(np.fromiter(map(len, chosen), dtype=np.int64, count=len(chosen)))
        return candidates[np.unique(np.searchsorted(ends, places, side="right"))]

    def _try_new(self, points: np.ndarray) -> None:
        """Encode characters not seen before by both encoders, in several contexts, and remember which differ."""
        states = self._tried[points]
        if states.all():
            return
        new = np.unique(points[states == UNTRIED])
        probes = [context.format(chr(point)) for point in new.tolist() for context in CONTEXTS]
        same = self._quick(probes).equals(self._reference(probes)).reshape(len(new), len(CONTEXTS)).all(axis=1)
        self._tried[new] = np.where(same, EQUAL, DIFFERENT)


def _load(tokenizer: Tokenizer) -> tuple[Any, str | None]:
    """Return tokie's reading of a tokenizer, or None and the reason why there is none; it reads files alone."""
    try:
        if tokenizer.path.suffix == ".txt":
            with tempfile.TemporaryDirectory(prefix="bertwright-tokenizer-") as folder:
                tokenizer.write(Path(folder))
                fast = tokie.Tokenizer.from_json(str(Path(folder) / FILE))
        else:
            fast = tokie.Tokenizer.from_json(str(tokenizer.path))
        fast.no_truncation()
        fast.no_padding()
    except BaseException as error:  # tokie raises several kinds for what it does not know, all meaning: the reference
        if not is_native_failure(error):
            raise
        return None, f"tokie cannot load this tokenizer ({error})"
    return fast, None
