"""Turns documents into what is wrong with them: copies, languages, broken characters, single sentences, long lines.

Documents come batch by batch; eight bytes of each are remembered, and on disk what near-copies are found by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.clean import MOJIBAKE, clean
from bertwright.corpus.dedup.hashes import hash_documents
from bertwright.corpus.dedup.near_duplicates import NearDuplicates, signatures
from bertwright.corpus.filters.language import SCRIPTS, languages_of, script_counts
from bertwright.corpus.sentences import Newlines, split_sentences
from bertwright.errors import UsageError

NEAR = 0.8
"""Fraction of common shingles from which a document counts as a near-copy, as in prepare's own example."""
LONG_LINE = 10_000
"""Characters of a line that no paragraph has: five pages."""
LANGUAGE_DOCUMENTS = 200
"""Documents of a batch whose language is detected: each takes 30 microseconds or more."""
REPLACED = "\ufffd"
CONTROL = "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x{84}\\x{86}-\\x{9f}\\x{fffe}\\x{ffff}]"


@dataclass
class DocumentCounts:
    """How many documents have which fault, so far.

    counts            documents, bytes, sentences, and documents with each fault: empty, duplicate, near_duplicate,
                      mojibake, replaced, control, long_line, one_sentence; long_line_bytes
    languages         documents of each language among those looked at; empty where no model for it is installed
    scripts           letters, Chinese characters and kana of the same documents
    language_missing  why no language is detected, "" where it is
    """

    counts: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(SCRIPTS, 0)))
    language_missing: str = ""


@dataclass(frozen=True)
class Profile:
    """What was found in raw text or a DATA folder.

    looked_at           in words, how much was looked at
    prepared            whether it is a DATA folder
    language            code of the language it is prepared as
    documents           counts of documents and their faults
    tokens              tokens by what is known of them: "all" and "unknown"; empty without a tokenizer
    trained_vocabulary  tokens of the vocabulary of DATA that `prepare` trained; 0 where one was given, or there is none
    held_out            fraction of the held-out documents that are in the training text too; None where none are
    tests               of each test file, (its texts, of which found)
    files               files of the inputs that were looked into; 0 for DATA
    refused             what `prepare` says of those of them that it refuses
    skipped             files of folders and globs that are of no format that is read
    """

    looked_at: str
    prepared: bool
    language: str
    documents: DocumentCounts
    tokens: Mapping[str, int] = field(default_factory=dict)
    trained_vocabulary: int = 0
    held_out: float | None = None
    tests: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    files: int = 0
    refused: Sequence[str] = ()
    skipped: Sequence[Path] = ()

    def fraction(self, fault: str) -> float:
        """Return the fraction of all documents that have a fault."""
        return self.documents.counts[fault] / max(1, self.documents.counts["documents"])


class Profiler:
    """Counts the faults of documents that come batch by batch; `found` holds the counts so far."""

    def __init__(self, folder: Path, *, language: str, newline: Newlines) -> None:
        """Begin; `folder`, a new one, is for what does not fit in memory."""
        self.found = DocumentCounts()
        self._language, self._newline = language, newline
        self._seen = np.zeros(0, dtype=np.uint64)
        self._near = NearDuplicates(folder, {}, NEAR)

    def look(self, raw: pa.StringArray, *, count_sentences: bool = True) -> pa.StringArray:
        """Count the faults of some more documents; return them cleaned, without empty ones and copies."""
        counts = self.found.counts
        counts.update({"documents": len(raw), "bytes": raw.nbytes})
        counts.update(_damage(raw))
        counts.update(_long_lines(raw))
        texts = clean(raw)
        texts = texts.filter(pc.greater(pc.binary_length(texts), 0))
        counts["empty"] += len(raw) - len(texts)
        texts = self._without_copies(texts)
        if len(texts):
            counts["near_duplicate"] += int((~self._near.find_new(signatures(texts, NEAR))).sum())
            self._detect_languages(texts)
        if count_sentences and len(texts):
            sentences = split_sentences(texts, self._language, newline=self._newline)[1]
            counts["one_sentence"] += int((sentences <= 1).sum())
            counts["sentences"] += int(sentences.sum())
        return texts

    def _without_copies(self, texts: pa.StringArray) -> pa.StringArray:
        hashes, first = np.unique(hash_documents(texts), return_index=True)
        new = first[~np.isin(hashes, self._seen, assume_unique=True)]
        self._seen = np.union1d(self._seen, hashes)
        self.found.counts["duplicate"] += len(texts) - len(new)
        return texts.take(pa.array(np.sort(new)))

    def _detect_languages(self, texts: pa.StringArray) -> None:
        picked = np.unique(np.linspace(0, len(texts) - 1, LANGUAGE_DOCUMENTS).round().astype(np.int64))
        chosen = texts.take(pa.array(picked))
        self.found.scripts.update(script_counts(chosen))
        if self.found.language_missing:
            return
        try:
            self.found.languages.update(languages_of(chosen))
        except UsageError as error:
            self.found.language_missing = str(error)


def _damage(raw: pa.StringArray) -> dict[str, int]:
    """Return how many documents have mis-decoded, lost and control characters."""
    suspects = raw.filter(pc.match_substring_regex(raw, MOJIBAKE)).to_pylist()
    return {
        "mojibake": sum(ftfy.fix_encoding(text) != text for text in suspects),
        "replaced": _count(pc.match_substring(raw, REPLACED)),
        "control": _count(pc.match_substring_regex(raw, CONTROL)),
    }


def _long_lines(raw: pa.StringArray) -> dict[str, int]:
    """Return how many documents have lines too long for a paragraph, and the bytes of those lines."""
    lists = pc.split_pattern(raw, "\n")
    lines = lists.flatten()
    long = np.flatnonzero(pc.greater(pc.utf8_length(lines), LONG_LINE).to_numpy(zero_copy_only=False))
    owners = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    long_bytes = int(pc.sum(pc.binary_length(lines.take(pa.array(long)))).as_py() or 0)
    return {"long_line": len(np.unique(owners[long])), "long_line_bytes": long_bytes}


def _count(chosen: pa.BooleanArray) -> int:
    return int(pc.sum(chosen).as_py() or 0)
