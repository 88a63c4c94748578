"""Turns the texts a vocabulary is trained on into the same texts with progress shown, and refuses text it cannot learn.

Training reads the text once or twice, with time left shown, and then chooses tokens, with the seconds so far.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
from tokenizers import models

from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.filters.screen import Screen
from bertwright.corpus.survey import TrainingTexts
from bertwright.log import note, progress_bar
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.long_words import WordPieceTexts
from bertwright.tokenizer.train_vocabulary import note_long_words, refuse_long_words, words_of

MOST_LONG_WORDS = 0.2
"""Share of a corpus from which words that WordPiece makes unknown are no accident: DNA, base64."""
PLAIN_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


class TextsWithProgress:
    """The texts of a corpus, gone through `passes` times; `on_read` gets the share read of all passes, 0 to 1."""

    def __init__(self, texts: TrainingTexts, passes: int, on_read: Callable[[float], None]) -> None:
        """Name the texts."""
        self._texts, self._passes, self._on_read = texts, passes, on_read
        self._begun = 0

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lists of documents."""
        self._begun += 1
        for documents in self._texts:
            yield documents
            share = min(self._texts.source_done / max(self._texts.source_bytes, 1), 1.0)
            self._on_read((self._begun - 1 + share) / self._passes)
        self._on_read(self._begun / self._passes)


@contextmanager
def shown_training(texts: TrainingTexts, *, passes: int) -> Iterator[TextsWithProgress]:
    """Yield the texts for a training that goes through them `passes` times, and show how far it is.

    On a terminal that is a bar with the time left, elsewhere a line every 30 seconds.
    """
    began = printed = time.perf_counter()
    with progress_bar() as bar:
        task = bar.add_task("reading for the vocabulary", total=1.0)

        def on_read(share: float) -> None:
            nonlocal printed
            now = time.perf_counter()
            if share < 1:
                bar.update(task, completed=share)
            else:
                bar.update(task, description="choosing tokens", total=None)
            if not sys.stderr.isatty() and now - printed > PLAIN_EVERY:
                printed, left = now, (now - began) * (1 / max(share, 1e-9) - 1) / 60
                note(f"vocabulary: {share:.0%} of the text read, {left:.1f} min left" if share < 1 else PLAIN_LAST)

        yield TextsWithProgress(texts, passes, on_read)
    note(f"vocabulary trained: {time.perf_counter() - began:.0f} s")


PLAIN_LAST = "vocabulary: all text read, choosing tokens"


def refuse_unknown_text(given: Tokenizer, sample: Sequence[str], screen: Screen | None) -> None:
    """Raise TokenizerError where a given WordPiece makes too much of a corpus unknown, by a sample of clean documents.

    Documents that do not pass the screen are not counted.
    """
    model = given.backend.model
    if isinstance(model, models.WordPiece):
        kept = sample if screen is None else screen.screen(pa.array(sample, pa.string()), DropCounts()).to_pylist()
        texts = WordPieceTexts(kept, words_of(given.backend), longest=model.max_input_chars_per_word)
        for _ in texts:
            pass
        note_long_words(texts, "unknown to the tokenizer given, by a sample")
        refuse_long_words(
            texts, MOST_LONG_WORDS, instead="a tokenizer of another kind, or no --tokenizer and --kind bpe"
        )
