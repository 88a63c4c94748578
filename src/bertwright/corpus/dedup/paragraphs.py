"""Takes paragraphs out of documents that were seen too often before: licences, menus, notices, running heads.

In one pass: the first so many copies of a paragraph stay where they are, all later ones go. On disk 12 bytes for each
different paragraph; in memory at most one unsorted handful.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.clean import without
from bertwright.corpus.dedup.hash_store import HashStore
from bertwright.corpus.dedup.hashes import hash_documents
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.sentences import Newlines

ENDS: dict[Newlines, str] = {"paragraph": "\n", "wrapped": "\n\n"}
"""What ends a paragraph, by what a newline means."""


class SeenParagraphs:
    """How often each paragraph was seen so far, in a folder that belongs to it."""

    def __init__(self, folder: Path, saved: dict[str, Any], *, most: int, newline: Newlines) -> None:
        """Take up a state that `save` returned ({} for none); a paragraph may stay `most` times."""
        self._counts = HashStore(folder, saved, numbered=True)
        self._most = most
        self._end = ENDS[newline]

    def without_repeated(self, texts: pa.StringArray) -> tuple[pa.StringArray, DropCounts]:
        """Return documents without the paragraphs that stand `most` times before them, and what was left out.

        A document of such paragraphs alone is empty.
        """
        lists = pc.split_pattern(texts, self._end)
        paragraphs = lists.flatten()
        repeated = self._earlier(paragraphs) >= self._most
        repeated &= pc.binary_length(paragraphs).to_numpy(zero_copy_only=False) > 0
        if not repeated.any():
            return texts, DropCounts()
        first = int(np.argmax(repeated))
        dropped = DropCounts.of("repeated_paragraph", int(repeated.sum()), paragraphs[first].as_py())
        return without(lists, repeated, end=self._end, texts=texts), dropped

    def save(self) -> dict[str, int]:
        """Write everything to disk; return what a later process needs to take it up."""
        return self._counts.save()

    def forget_previous(self) -> None:
        """Remove the files that only the state before the last `save` needs."""
        self._counts.forget_previous()

    def _earlier(self, paragraphs: pa.StringArray) -> np.ndarray:
        """Return how often each paragraph stands before its place, up to `most`, [P] int64; count all of them."""
        hashes = hash_documents(paragraphs)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        firsts = np.flatnonzero(np.diff(ordered, prepend=~ordered[:1]))
        counts = np.diff(firsts, append=len(ordered))
        before = self._counts.find(ordered[firsts]).astype(np.int64)
        earlier = np.empty(len(hashes), dtype=np.int64)
        earlier[order] = np.arange(len(ordered)) - np.repeat(firsts - before, counts)
        more = np.minimum(counts, np.maximum(self._most - before, 0))
        self._counts.add(ordered[firsts][more > 0], more[more > 0].astype(np.uint32))
        return earlier
