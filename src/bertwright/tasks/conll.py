"""Turns a CoNLL file (a word a line, its tag last, a blank line between sentences) into words and tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers.blocks import read_blocks, read_text
from bertwright.corpus.readers.delimited import checked
from bertwright.corpus.readers.formats import plain_suffix
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.running_words import GivenWords

DOCUMENT = "-DOCSTART-"
"""The word of a line that stands between documents (CoNLL-2003)."""
SUFFIXES = (".conll", ".iob", ".iob2", ".bio")
BLANKS = " \t\n\v\f\r"
"""What stands around words; no-break spaces may be words."""


@dataclass(frozen=True)
class TaggedWords:
    """W words of N sentences of a file.

    words   [W] strings    names  the different tags    tags  [W] int64 into names
    counts  [N] int64 words of each sentence            lines [W] int64 line numbers, from 1
    """

    path: Path
    words: list[str]
    names: list[str]
    tags: np.ndarray
    counts: np.ndarray
    lines: np.ndarray


def read_conll(
    path: Path, *, word_column: str | None = None, tag_column: str | None = None, encoding: str | None = None
) -> TaggedWords:
    """Return the words of a CoNLL file, columns cut at tabs or else at blanks, parsed at once.

    Columns are numbers from 1; without them the first holds the words and the last the tags. Raises CorpusError where
    the file is missing, empty or ragged, naming the line, and UsageError where there is no such column.
    """
    lines, numbers, sentence_of = _word_lines(path, encoding)
    separator = "\t" if "\t" in lines[0].as_py() else r"[ \t]+"
    # Only what ASCII calls blank: a word may be a no-break space.
    trimmed = pc.ascii_rtrim_whitespace(lines) if separator == "\t" else pc.ascii_trim_whitespace(lines)
    cells = pc.split_pattern_regex(trimmed, separator)
    widths = pc.list_value_length(cells).to_numpy()
    odd = np.flatnonzero(widths != widths[0])
    if widths[0] < 2 or len(odd):
        place = int(odd[0]) if widths[0] > 1 else 0
        expected = f"{widths[0]} as before" if widths[0] > 1 else "a word and its tag"
        raise CorpusError(
            f"{path} line {numbers[place]:,} has {widths[place]} columns where {expected} were expected: "
            f"{lines[place].as_py()[:60]!r}; mend that line"
        )
    width = int(widths[0])
    words = pc.list_element(cells, _column(word_column, width, path=path, usual=0))
    tags = pc.list_element(cells, _column(tag_column, width, path=path, usual=width - 1)).dictionary_encode()
    return TaggedWords(
        path=path,
        words=words.to_pylist(),
        names=tags.dictionary.to_pylist(),
        tags=tags.indices.to_numpy().astype(np.int64),
        counts=np.unique(sentence_of, return_counts=True)[1].astype(np.int64),
        lines=numbers,
    )


def is_conll(path: Path) -> bool:
    """Say whether a file's name tells CoNLL."""
    return plain_suffix(path) in SUFFIXES


def stream_sentences(
    path: Path, word_column: str | None = None, encoding: str | None = None
) -> Iterator[tuple[int, GivenWords]]:
    """Yield the line each sentence of a CoNLL file begins on, and its words; there may be no tags.

    The words are in the first column, or that of the number `word_column`. Raises CorpusError where the file is
    missing, ragged or no text, naming the line, and UsageError where there is no such column.
    """
    words: list[str] = []
    begun = width = 0
    for number, cells in _cells_of_lines(path, encoding):
        if not cells and words:
            yield begun, GivenWords(words)
            words = []
        if not cells:
            continue
        width = width or len(cells)
        if len(cells) != width:
            raise CorpusError(
                f"{path} line {number:,} has {len(cells)} columns where {width} as before were expected; mend that line"
            )
        begun = begun if words else number
        words.append(cells[_column(word_column, width, path=path, usual=0)])
    if words:
        yield begun, GivenWords(words)


def _cells_of_lines(path: Path, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of each line and its cells, none for one that stands between sentences."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    number, tabs = 0, None
    for block in checked(read_blocks(path, encoding), path):
        for line in block.data.decode().removesuffix("\n").split("\n"):
            number += 1
            if not line.strip() or line.startswith(DOCUMENT):
                yield number, []
                continue
            tabs = "\t" in line if tabs is None else tabs
            yield number, line.rstrip(BLANKS).split("\t") if tabs else re.split(r"[ \t]+", line.strip(BLANKS))


def _word_lines(path: Path, encoding: str | None) -> tuple[pa.StringArray, np.ndarray, np.ndarray]:
    """Return the lines that hold a word, their numbers from 1, and the number of the sentence each is in."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    every = pc.split_pattern(pa.array([read_text(path, encoding)]), "\n").flatten()
    between = pc.or_(pc.equal(pc.utf8_trim_whitespace(every), ""), pc.starts_with(every, DOCUMENT))
    breaks = between.to_numpy(zero_copy_only=False)
    held = np.flatnonzero(~breaks)
    if not len(held):
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    return every.take(pa.array(held)), held + 1, np.cumsum(breaks)[held]


def _column(told: str | None, width: int, *, path: Path, usual: int) -> int:
    if told is None:
        return usual
    if not told.isdigit() or not 1 <= int(told) <= width:
        raise UsageError(f"{path} has columns 1 to {width}, and none called {told!r}; give a number")
    return int(told) - 1
