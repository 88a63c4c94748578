"""Turns raw documents into clean ones, and clean ones into tokens: all work that needs no memory of other documents.

Whoever has a plan can do it, in any order: a thread of this process, another process, another machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
import pyarrow as pa

from bertwright.corpus.clean import clean
from bertwright.corpus.dedup.hashes import hash_documents
from bertwright.corpus.dedup.near_duplicates import Signatures, signatures
from bertwright.corpus.encode import DocumentEncoder
from bertwright.corpus.filters.counts import DropCounts
from bertwright.corpus.filters.text_filter import TextFilter
from bertwright.corpus.sentences import Newlines
from bertwright.corpus.shards import DocumentBlock
from bertwright.tokenizer.load import load_tokenizer


@dataclass(frozen=True)
class WorkPlan:
    """What decides what becomes of a document by itself.

    tokenizer        folder of the tokenizer
    language         code such as "en"
    newline          what a newline means in the text
    sample           documents the encoder is proved on
    near_duplicates  similarity from which documents count as copies; None leaves copies in
    text_filter      what lines and documents must be to stay, or None
    """

    tokenizer: Path
    language: str
    newline: Newlines
    sample: list[str]
    near_duplicates: float | None = None
    text_filter: TextFilter | None = None


@dataclass(frozen=True)
class CleanTexts:
    """Cleaned documents, without those that do not pass the filter.

    texts       [D]
    hashes      [D] uint64
    signatures  of the D documents, where near-duplicates are looked for
    dropped     what was left out
    seconds     time spent
    """

    texts: pa.StringArray
    hashes: np.ndarray
    signatures: Signatures | None
    dropped: DropCounts
    seconds: dict[str, float]


@dataclass(frozen=True)
class EncodedTexts:
    """The tokens of `documents` documents, those without any left out; `seconds` is the time spent."""

    block: DocumentBlock
    documents: int
    seconds: dict[str, float]


class TextWork:
    """Does what a plan says. Several threads may use it at once."""

    def __init__(self, plan: WorkPlan) -> None:
        """Load the tokenizer and prove the encoder on the sample."""
        self.plan = plan
        self.tokenizer = load_tokenizer(plan.tokenizer)
        self.encoder = DocumentEncoder(
            self.tokenizer, language=plan.language, newline=plan.newline, sample=plan.sample
        )  # fmt: skip

    def clean(self, texts: pa.StringArray) -> CleanTexts:
        """Return raw documents cleaned, with what duplicates are found by."""
        watch, dropped = Stopwatch(), DropCounts()
        texts = clean(texts)
        if self.plan.text_filter is not None:
            watch.lap("cleaning")
            texts, dropped = self.plan.text_filter.filter(texts)
            watch.lap("filters")
        hashes = hash_documents(texts)
        watch.lap("cleaning")
        near = None
        if self.plan.near_duplicates is not None:
            near = signatures(texts, self.plan.near_duplicates)
            watch.lap("near-duplicates")
        return CleanTexts(texts, hashes, near, dropped, watch.seconds)

    def encode(self, texts: pa.StringArray) -> EncodedTexts:
        """Return the tokens of clean documents."""
        watch = Stopwatch()
        sentences, counts = self.encoder.split(texts)
        watch.lap("sentences")
        block = self.encoder.encode(sentences, counts)
        watch.lap("encoding")
        return EncodedTexts(block, len(texts), watch.seconds)


class Stopwatch:
    """Seconds by stage, each from the end of the one before."""

    def __init__(self) -> None:
        """Start."""
        self.seconds: dict[str, float] = {}
        self._since = perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last stage as that of this one."""
        now = perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now
