"""Finds which clean documents of a corpus are new: all that depends on the documents before, kept on disk as one.

What is remembered is saved with the journal, and taken up again as it was then.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.dedup.hash_store import HashStore
from bertwright.corpus.dedup.near_duplicates import NearDuplicates
from bertwright.corpus.dedup.paragraphs import SeenParagraphs
from bertwright.corpus.executors.work import CleanTexts
from bertwright.corpus.filters.counts import DropCounts, keep_passed
from bertwright.corpus.sentences import Newlines

SEEN_FOLDER = ".seen"


class DedupState:
    """What was seen so far, in the folder `.seen` of a DATA folder."""

    def __init__(
        self, out: Path, saved: dict[str, Any], *, near_duplicates: float | None = None,
        repeated_paragraphs: int | None = None, newline: Newlines = "paragraph",
    ) -> None:  # fmt: skip
        """Take up a state that `save` returned ({} for none); raises CorpusError where its files are damaged."""
        folder = out / SEEN_FOLDER
        self._documents = HashStore(folder / "documents", saved.get("documents", {}), numbered=False)
        self._near: NearDuplicates | None = None
        self._paragraphs: SeenParagraphs | None = None
        self._stores: dict[str, HashStore | NearDuplicates | SeenParagraphs] = {"documents": self._documents}
        if near_duplicates is not None:
            self._near = NearDuplicates(folder / "near", saved.get("near", {}), near_duplicates)
            self._stores["near"] = self._near
        if repeated_paragraphs is not None:
            self._paragraphs = SeenParagraphs(
                folder / "paragraphs", saved.get("paragraphs", {}), most=repeated_paragraphs, newline=newline
            )
            self._stores["paragraphs"] = self._paragraphs

    def new(self, clean: CleanTexts) -> tuple[pa.StringArray, np.ndarray, DropCounts]:
        """Return the texts of D documents, which of them stay, [D] bool, and the counts of the others; remember all."""
        texts = clean.texts
        kept = _is_full(texts)
        dropped = DropCounts(Counter(empty=len(kept) - int(kept.sum())))
        kept, copies = keep_passed(kept, _spread(kept, self._documents.add_new(clean.hashes[kept])), "duplicate", texts)
        dropped += copies
        if self._near is not None and clean.signatures is not None:
            new = self._near.find_new(clean.signatures.filter(kept))
            kept, near = keep_passed(kept, _spread(kept, new), "near_duplicate", texts)
            dropped += near
        if self._paragraphs is not None and kept.any():
            left, repeated = self._paragraphs.without_repeated(texts.filter(pa.array(kept)))
            shortened = pc.replace_with_mask(texts, pa.array(kept), left)
            kept, of_repeated_alone = keep_passed(kept, _spread(kept, _is_full(left)), "repeated", texts)
            dropped, texts = dropped + repeated + of_repeated_alone, shortened
        return texts, kept, dropped

    def save(self) -> dict[str, Any]:
        """Write everything to disk; return what a later process needs to take it up."""
        return {name: store.save() for name, store in self._stores.items()}

    def forget_previous(self) -> None:
        """Remove the files that only the state before the last `save` needs."""
        for store in self._stores.values():
            store.forget_previous()


def _is_full(texts: pa.StringArray) -> np.ndarray:
    """Return which texts hold something, [D] bool."""
    return np.asarray(pc.binary_length(texts).to_numpy(zero_copy_only=False) > 0)


def _spread(kept: np.ndarray, passed: np.ndarray) -> np.ndarray:
    """Return [D] bool from what is true of the documents kept: False for all others."""
    spread = kept.copy()
    spread[kept] = passed
    return spread
