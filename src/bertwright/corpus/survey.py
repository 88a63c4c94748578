"""Turns the start of a corpus into what must be known before the work: how much text, what newlines mean, its language.

The starts of some files are read once for all of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertwright.corpus.clean import clean
from bertwright.corpus.filters.language import LanguageChoice, LanguageVotes
from bertwright.corpus.readers.documents import read_documents
from bertwright.corpus.readers.formats import ReadOptions
from bertwright.corpus.readers.layouts import Layout
from bertwright.corpus.readers.remote import TextFile, size_of, total_size
from bertwright.corpus.sentences import Newlines, detect_newlines
from bertwright.errors import CorpusError

SAMPLE_FILES = 8
SAMPLE_BATCHES = 2
SAMPLE_BYTES = 3 << 20
"""About 22,000 sentences of English: twice what the proofs look at."""
LANGUAGE_FILES, LANGUAGE_REMOTE = 64, 8
"""Files whose language is looked at; of those behind addresses each costs a request."""
LANGUAGE_DOCUMENTS, FEWEST = 240, 8
"""Documents of all these files together, and the fewest of one file."""


@dataclass(frozen=True)
class Survey:
    """What a look at a corpus found.

    text_bytes  estimate of the bytes of text in all files
    newline     whether a newline ends a paragraph or was put in to wrap a line
    sample      clean documents from the start, or from the starts of up to 8 files, for the proofs
    language    the one given, or found
    """

    text_bytes: int
    newline: Newlines
    sample: list[str]
    language: LanguageChoice


def survey(
    paths: list[TextFile], options: ReadOptions, *, layout: Layout | None, language: str | None = None
) -> Survey:  # fmt: skip
    """Look at two batches of a single file, or one of each of up to eight files; for the language, of up to 64.

    A file looked at for its language counts by the bytes of the files around it. Raises CorpusError where there is no
    text in the eight files.
    """
    sampled = {int(group[0]) for group in np.array_split(np.arange(len(paths)), min(len(paths), SAMPLE_FILES))}
    weights = {} if language else _language_weights(paths)
    votes = LanguageVotes()
    texts: list[str] = []
    text_bytes = read_bytes = 0
    for number in sorted(sampled | weights.keys()):
        path = paths[number]
        batches = -(-SAMPLE_BATCHES // len(paths)) if number in sampled else 1
        starts = list(islice(read_documents([path], options, layout=layout), batches))
        if number in weights:
            first = starts[0].texts if starts else pa.array([], pa.string())
            votes.add(_spread(first, len(weights)), weight=weights[number])
        if number in sampled:
            text_bytes += sum(batch.texts.nbytes for batch in starts)
            read_bytes += starts[-1].source_bytes_done if starts else size_of(path)
            texts += [text for batch in starts for text in _some(batch.texts, SAMPLE_BYTES // SAMPLE_BATCHES)]
    if not texts:
        raise CorpusError(f"there is no text in {paths[0]} and the other inputs; give files with words in them")
    fraction = text_bytes / max(read_bytes, 1)
    starts_of_texts = [text[:4000] for text in texts[:: -(-len(texts) // 250)]]
    return Survey(
        int(fraction * total_size(paths)), detect_newlines(starts_of_texts), texts,
        LanguageChoice(language) if language else votes.choice(),
    )  # fmt: skip


def _some(texts: pa.StringArray, most: int) -> list[str]:
    """Return clean documents spread over a batch, about `most` bytes of text together, long ones cut short."""
    stride = max(1, min(texts.nbytes // most, len(texts)))
    picked = [text[:most] for text in texts.take(np.arange(0, len(texts), stride)).to_pylist()]
    return [text for text in clean(pa.array(picked, pa.string())).to_pylist() if text]


def _language_weights(paths: Sequence[TextFile]) -> dict[int, float]:
    """Return the numbers of some files, evenly spread, each with the bytes of the files it stands for."""
    most = LANGUAGE_FILES if all(isinstance(path, Path) for path in paths) else LANGUAGE_REMOTE
    groups = np.array_split(np.arange(len(paths)), min(len(paths), most))
    return {
        int(group[0]): float(max(1, total_size([paths[int(place)] for place in group]))) for group in groups
    }  # fmt: skip


def _spread(texts: pa.StringArray, files: int) -> pa.StringArray:
    """Return the documents of a batch that its language is found by, where `files` files are looked at."""
    most = max(FEWEST, LANGUAGE_DOCUMENTS // files)
    if len(texts) <= most:
        return texts
    return texts.take(pa.array(np.linspace(0, len(texts) - 1, most).round().astype(np.int64)))
