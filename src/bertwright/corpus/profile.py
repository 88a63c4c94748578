"""Turns documents into what is wrong with them: copies, languages, broken characters, single sentences, long lines.

Documents come batch by batch; what is remembered of them is eight bytes each, and on disk what near-copies are told by.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import ftfy
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.clean import MOJIBAKE, clean
from bertwright.corpus.dedup.exact import hash_documents
from bertwright.corpus.dedup.near_duplicates import NearDuplicates, signatures
from bertwright.corpus.filters.language import languages_of
from bertwright.corpus.filters.language_choice import SCRIPTS, script_counts
from bertwright.corpus.sentences import Newlines, split_sentences
from bertwright.errors import UsageError

NEAR = 0.8
"""Share of common shingles from which a document counts as a near-copy, as in prepare's own example."""
LONG_LINE = 10_000
"""Characters of a line that no paragraph has: five pages."""
LANGUAGE_DOCUMENTS = 200
"""Documents of a batch whose language is told: each takes 30 microseconds or more."""
REPLACED = "\ufffd"
CONTROL = "[\\x00-\\x08\\x0b\\x0e-\\x1f\\x7f-\\x{84}\\x{86}-\\x{9f}\\x{fffe}\\x{ffff}]"


class Examination:
    """What was found so far.

    counts     documents, bytes, sentences, and documents with each fault: empty, duplicate, near_duplicate, mojibake,
               replaced, control, long_line, one_sentence; long_line_bytes
    languages  documents of each language among those asked about; empty where no model for it is installed
    scripts    letters, Chinese characters and kana of the same documents
    """

    def __init__(self, folder: Path, *, language: str, newline: Newlines) -> None:
        """Begin; `folder`, an empty one, is for what does not fit in memory."""
        self.counts: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.scripts: Counter[str] = Counter(dict.fromkeys(SCRIPTS, 0))
        self.language_missing = ""
        self._language, self._newline = language, newline
        self._seen = np.zeros(0, dtype=np.uint64)
        self._near = NearDuplicates(folder, {}, NEAR)

    def look(self, raw: pa.StringArray, *, count_sentences: bool = True) -> pa.StringArray:
        """Examine some more documents; return them cleaned, without empty ones and copies."""
        self.counts["documents"] += len(raw)
        self.counts["bytes"] += raw.nbytes
        self._damage(raw)
        self._long_lines(raw)
        texts = clean(raw)
        texts = texts.filter(pc.greater(pc.binary_length(texts), 0))
        self.counts["empty"] += len(raw) - len(texts)
        texts = self._without_copies(texts)
        self._near_copies(texts)
        self._tell_languages(texts)
        if count_sentences and len(texts):
            sentences = split_sentences(texts, self._language, newline=self._newline)[1]
            self.counts["one_sentence"] += int((sentences <= 1).sum())
            self.counts["sentences"] += int(sentences.sum())
        return texts

    def _damage(self, raw: pa.StringArray) -> None:
        suspects = raw.filter(pc.match_substring_regex(raw, MOJIBAKE)).to_pylist()
        self.counts["mojibake"] += sum(ftfy.fix_encoding(text) != text for text in suspects)
        self.counts["replaced"] += _count(pc.match_substring(raw, REPLACED))
        self.counts["control"] += _count(pc.match_substring_regex(raw, CONTROL))

    def _long_lines(self, raw: pa.StringArray) -> None:
        lists = pc.split_pattern(raw, "\n")
        lines = lists.flatten()
        long = np.flatnonzero(pc.greater(pc.utf8_length(lines), LONG_LINE).to_numpy(zero_copy_only=False))
        owners = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
        self.counts["long_line"] += len(np.unique(owners[long]))
        self.counts["long_line_bytes"] += int(pc.sum(pc.binary_length(lines.take(pa.array(long)))).as_py() or 0)

    def _without_copies(self, texts: pa.StringArray) -> pa.StringArray:
        hashes, first = np.unique(hash_documents(texts), return_index=True)
        new = first[~np.isin(hashes, self._seen, assume_unique=True)]
        self._seen = np.union1d(self._seen, hashes)
        self.counts["duplicate"] += len(texts) - len(new)
        return texts.take(pa.array(np.sort(new)))

    def _near_copies(self, texts: pa.StringArray) -> None:
        if len(texts):
            self.counts["near_duplicate"] += int((~self._near.first_seen(signatures(texts, NEAR))).sum())

    def _tell_languages(self, texts: pa.StringArray) -> None:
        if not len(texts):
            return
        picked = np.unique(np.linspace(0, len(texts) - 1, LANGUAGE_DOCUMENTS).round().astype(np.int64))
        chosen = texts.take(pa.array(picked))
        self.scripts.update(script_counts(chosen))
        if self.language_missing:
            return
        try:
            self.languages.update(languages_of(chosen))
        except UsageError as error:
            self.language_missing = str(error)


def _count(chosen: pa.BooleanArray) -> int:
    return int(pc.sum(chosen).as_py() or 0)
