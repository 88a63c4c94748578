"""Tells which clean documents of a corpus are new: all that depends on the documents before, kept on disk as one.

What is remembered is saved with the journal, and taken up again as it was then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.dedup.exact import SeenDocuments
from bertwright.corpus.dedup.near_duplicates import NearDuplicates
from bertwright.corpus.dedup.paragraphs import SeenParagraphs
from bertwright.corpus.executors.work import CleanTexts
from bertwright.corpus.filters.counts import DropCounts
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
        self._documents = SeenDocuments(folder / "documents", saved.get("documents", {}))
        self._near = None
        if near_duplicates is not None:
            self._near = NearDuplicates(folder / "near", saved.get("near", {}), near_duplicates)
        self._paragraphs = None
        if repeated_paragraphs is not None:
            self._paragraphs = SeenParagraphs(
                folder / "paragraphs", saved.get("paragraphs", {}), most=repeated_paragraphs, newline=newline
            )

    def new(self, clean: CleanTexts, told: DropCounts) -> tuple[pa.StringArray, np.ndarray]:
        """Return the texts of D documents and which of them stay, [D] bool; tell of the others."""
        kept = np.asarray(pc.binary_length(clean.texts).to_numpy(zero_copy_only=False) > 0)
        told.counts["empty"] += len(kept) - int(kept.sum())
        _keep(kept, self._documents.first_seen(clean.hashes[kept]), "duplicate", told, clean.texts)
        if self._near is not None and clean.signatures is not None:
            _keep(kept, self._near.first_seen(clean.signatures.filter(kept)), "near_duplicate", told, clean.texts)
        if self._paragraphs is None or not kept.any():
            return clean.texts, kept
        return self._without_repeated(clean.texts, kept, told)

    def _without_repeated(
        self, texts: pa.StringArray, kept: np.ndarray, told: DropCounts
    ) -> tuple[pa.StringArray, np.ndarray]:
        assert self._paragraphs is not None
        left = self._paragraphs.without_repeated(texts.filter(pa.array(kept)), told)
        full = np.asarray(pc.binary_length(left).to_numpy(zero_copy_only=False) > 0)
        shortened = pc.replace_with_mask(texts, pa.array(kept), left)
        _keep(kept, full, "repeated", told, texts)
        return shortened, kept

    def save(self) -> dict[str, Any]:
        """Write everything to disk; return what a later process needs to take it up."""
        saved: dict[str, Any] = {"documents": self._documents.save()}
        if self._near is not None:
            saved["near"] = self._near.save()
        if self._paragraphs is not None:
            saved["paragraphs"] = self._paragraphs.save()
        return saved

    def settle(self) -> None:
        """Let go of the state before the one that `save` returned last."""
        self._documents.settle()
        if self._near is not None:
            self._near.settle()
        if self._paragraphs is not None:
            self._paragraphs.settle()


def _keep(kept: np.ndarray, new: np.ndarray, reason: str, told: DropCounts, texts: pa.StringArray) -> None:
    """Of the documents kept so far, keep those that are new."""
    repeated = np.flatnonzero(kept)[~new]
    kept[repeated] = False
    if len(repeated):
        told.add(reason, len(repeated), texts[int(repeated[0])].as_py())
