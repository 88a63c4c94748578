"""Turns the start of a corpus into what must be known before the work: how much text, what newlines mean, a sample."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa

from bertwright.corpus.clean import clean
from bertwright.corpus.dedup.exact import hash_documents, valid_documents
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.filters.screen import Screen
from bertwright.corpus.readers.documents import read_documents, source_bytes
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout
from bertwright.corpus.readers.remote import TextFile, size_of
from bertwright.corpus.sentences import Newlines, tell_newlines
from bertwright.errors import CorpusError

SAMPLE_FILES = 8
SAMPLE_BATCHES = 2
SAMPLE_BYTES = 3 << 20
"""About 22,000 sentences of English: twice what the proofs look at."""
TRAINING_BYTES = 1 << 30
"""Text a vocabulary is trained on at most: the trainer holds a count of every different word in it."""


@dataclass(frozen=True)
class Survey:
    """What a look at a corpus told.

    text_bytes  estimate of the bytes of text in all files
    newline     whether a newline ends a paragraph or was put in to wrap a line
    sample      clean documents from the start, or from the starts of up to 8 files, for the proofs
    """

    text_bytes: int
    newline: Newlines
    sample: list[str]


def survey(paths: list[TextFile], options: ReadOptions, *, layout: Layout | None) -> Survey:
    """Look at two batches of a single file, or one of each of up to eight files.

    Raises CorpusError where there is no text in them.
    """
    texts: list[str] = []
    seen_text = seen_source = 0
    for picked in np.array_split(np.arange(len(paths)), min(len(paths), SAMPLE_FILES)):
        path = paths[int(picked[0])]
        batches = -(-SAMPLE_BATCHES // len(paths))
        read = size_of(path)
        for batch in islice(read_documents([path], options, layout=layout), batches):
            seen_text += batch.texts.nbytes
            texts += _some(batch.texts, SAMPLE_BYTES // SAMPLE_BATCHES)
            read = batch.source_bytes_done
        seen_source += read
    if not texts:
        raise CorpusError(f"there is no text in {paths[0]} and the other inputs; give files with words in them")
    ratio = seen_text / max(seen_source, 1)
    starts = [text[:4000] for text in texts[:: -(-len(texts) // 250)]]
    return Survey(int(ratio * source_bytes(paths)), tell_newlines(starts), texts)


def _some(texts: pa.StringArray, most: int) -> list[str]:
    """Return clean documents spread over a batch, about `most` bytes of text together, long ones cut short."""
    stride = max(1, min(texts.nbytes // most, len(texts)))
    picked = [text[:most] for text in texts.take(np.arange(0, len(texts), stride)).to_pylist()]
    return [text for text in clean(pa.array(picked, pa.string())).to_pylist() if text]


class TrainingTexts:
    """The clean documents a vocabulary is trained on, batch by batch, anew each time it is gone through.

    Held-out documents, a `share` of all, are left out, and what does not pass the screen. Of more than a gigabyte of
    text, every k-th batch is taken.

    source_bytes  bytes of all files
    source_done   how many of them were read, in the pass that began last
    """

    def __init__(
        self, paths: list[TextFile], options: ReadOptions, *, layout: Layout | None, text_bytes: int, share: float,
        screen: Screen | None = None,
    ) -> None:  # fmt: skip
        """Name what to read; nothing is read before it is gone through."""
        self.stride = -(-max(text_bytes, 1) // TRAINING_BYTES)
        self.source_bytes, self.source_done = source_bytes(paths), 0
        self._share, self._screen = share, screen
        self._paths, self._options, self._layout = paths, options, layout

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lists of documents."""
        batches = read_documents(self._paths, self._options, layout=self._layout)
        for batch in islice(batches, 0, None, self.stride):
            texts = clean(batch.texts)
            if self._screen is not None:
                texts = self._screen.screen(texts, DropCounts())
            training = ~valid_documents(hash_documents(texts), self._share)
            documents: list[str] = texts.filter(pa.array(training)).to_pylist()
            self.source_done = batch.source_bytes_done
            yield documents
