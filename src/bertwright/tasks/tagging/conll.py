"""Turns a CoNLL file (a word a line, its tag last, a blank line between sentences) into words and tags.

Lines of comments (`# id 7`, `#begin document`) and a first line that names the columns are skipped, and that is noted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from bertwright.corpus.readers.blocks import read_blocks, read_text
from bertwright.corpus.readers.delimited import require_text
from bertwright.corpus.readers.formats import plain_suffix
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.columns import SINGLES
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.tag_columns import TAGS, WORDS, TaggedWords

DOCUMENT = "-DOCSTART-"
"""The word of a line that stands between documents (CoNLL-2003)."""
SUFFIXES = (".conll", ".conllu", ".conllx", ".iob", ".iob2", ".bio", ".bioes")
BLANKS = " \t\n\v\f\r"
"""What stands around words; no-break spaces may be words."""
BRAT = re.compile(r"T\d+\t\S+ \d+ \d+")
"""A line of brat's .ann files."""
UNIVERSAL = 10
"""Columns of CoNLL-U."""
RANGE = re.compile(r"\d+[-.]\d+")
"""What CoNLL-U has in place of a number before a line that is no word: 1-2 for two in one, 1.1 for one left out."""
START_LINES = 200
"""Lines by which columns are recognised."""


@dataclass(frozen=True)
class Cutter:
    """How the lines of a file are cut into cells: at tabs, commas or blanks; `width` cells each.

    names     those of the columns, in capitals or not, where the first line names them
    numbered  whether the first column numbers the words of a sentence from 1, as in CoNLL-U
    constant  whether the first column is the same at all words of a sentence, such as a document in CoNLL-2012
    """

    separator: str
    width: int
    names: tuple[str, ...] = ()
    numbered: bool = False
    constant: bool = False

    @classmethod
    def of_lines(cls, lines: list[str], *, commas: bool) -> Cutter:
        """Return what cuts a file with these first lines, empty between sentences; `commas` where it is a .csv.

        Lines that begin with # say nothing of it, but where there are no others.
        """
        held = [line for line in lines if not line.startswith("#")]
        held = held if any(held) else [line.lstrip("#") or line for line in lines]
        line = next(line for line in held if line)
        separator = "\t" if "\t" in line else "," if commas and "," in line else " "
        cut = cls(separator, 0)
        cells = cut.cells(line)
        lower = tuple(cell.strip().lower() for cell in cells)
        named = len(lower) > 1 and lower[0] in (*WORDS, *SINGLES) and lower[-1] in TAGS
        names = tuple(cell.strip() for cell in cells) if named else ()
        several = len(cells) > 2
        return cls(separator, len(cells), names, several and _number_words(held, cut), several and _repeat(held, cut))

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line."""
        if self.separator == "\t":
            return line.rstrip(BLANKS).split("\t")
        if self.separator == ",":
            try:
                return next(csv.reader([line.rstrip(BLANKS)]), [""])
            except csv.Error:  # a carriage return within the line, or a cell of 128 kB
                return line.rstrip(BLANKS).split(",")
        return re.split(r"[ \t]+", line.strip(BLANKS))

    def words(self, given: str | None, *, path: Path) -> int:
        """Return the place of the column of words: the one given, else the first that does not number them.

        Raises CorpusError where the first column holds no words.
        """
        if given is None and self.constant:
            raise CorpusError(
                f"the first column of {path} is the same at all words of a sentence; name that of the words, such as "
                "--text-column 4"
            )
        return self.column(given, path=path, usual=int(self.numbered))

    def tags(self, given: str | None, *, path: Path) -> int:
        """Return the place of the column of tags: the one given, else the last; raises CorpusError for CoNLL-U."""
        if given is None and self.numbered and self.width == UNIVERSAL:
            raise CorpusError(
                f"{path} is CoNLL-U, of whose {UNIVERSAL} columns several hold tags; name one, such as --label-column 4"
            )
        return self.column(given, path=path, usual=self.width - 1)

    def is_comment(self, line: str, cells: int, *, opens: bool) -> bool:
        """Say whether a line is a comment: # and other columns than words have, a blank after it or a new sentence.

        `opens` says that a sentence begins with the line. A line of as many columns as others is a word, such as "#fun"
        with its tag.
        """
        return line.startswith("#") and cells != self.width and (opens or line[1:2] in ("", " "))

    def column(self, given: str | None, *, path: Path, usual: int) -> int:
        """Return the place of a column that is given by number or name, else the usual one; raises UsageError."""
        if given is None:
            return usual
        if given in self.names:
            return self.names.index(given)
        if not given.isdecimal() or not 1 <= int(given) <= self.width:
            known = f" ({', '.join(self.names)})" if self.names else ""
            raise UsageError(f"{path} has columns 1 to {self.width}{known}, and none called {given!r}; give a number")
        return int(given) - 1


@dataclass(frozen=True)
class WordLine:
    """A line that holds a word: its number from 1, the number of its sentence, and its cells."""

    number: int
    sentence: int
    cells: list[str]


def read_conll(
    path: Path, *, word_column: str | None = None, tag_column: str | None = None, encoding: str | None = None
) -> TaggedWords:
    """Return the words of a CoNLL file, columns cut at tabs or else at blanks (at commas in .csv).

    Columns are numbers from 1; without them the first holds the words and the last the tags. Raises CorpusError where
    the file is missing, empty or ragged, naming the line, and UsageError where there is no such column.
    """
    _refuse_missing(path)
    every = list(_numbered(read_text(path, encoding).split("\n")))
    if BRAT.match(next((line for _, line in every if line), "")):
        raise CorpusError(f"{path} is a file of brat, which is not read; export CoNLL, a word and its tag a line")
    cutter = _cutter_of(every, path)
    lines = (
        []
        if cutter is None
        else _without_odd_openings(list(_word_lines(every, cutter, path, tagged=True)), cutter, path)
    )
    if cutter is None or not lines:
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    word, tag = cutter.words(word_column, path=path), cutter.tags(tag_column, path=path)
    tags = pa.array([line.cells[tag].strip() for line in lines]).dictionary_encode()
    return TaggedWords(
        path=path,
        words=[line.cells[word] for line in lines],
        names=tags.dictionary.to_pylist(),
        tags=tags.indices.to_numpy().astype(np.int64),
        counts=np.unique([line.sentence for line in lines], return_counts=True)[1].astype(np.int64),
        lines=np.array([line.number for line in lines], dtype=np.int64),
    )


def has_words_alone(path: Path, encoding: str | None = None) -> bool:
    """Return whether the lines at the start of a CoNLL file hold one word each, and no tag."""
    for block in require_text(read_blocks(path, encoding), path):
        lines = [line.strip(BLANKS) for line in block.data.decode().split("\n")]
        held = [line for line in lines if line and not line.startswith((DOCUMENT, "#"))]
        between = r"[ \t]|.,|,." if _commas(path) else r"[ \t]"
        return bool(held) and not any(re.search(between, line) for line in held)
    return False


def _commas(path: Path) -> bool:
    return ".csv" in (suffix.lower() for suffix in path.suffixes[-2:])


def _number_words(lines: list[str], cutter: Cutter) -> bool:
    """Say whether the first cells of lines count from 1 in each sentence; the last one may be cut off."""
    count = 0
    for line in lines:
        cell = cutter.cells(line)[0] if line else ""
        if RANGE.fullmatch(cell):
            continue
        count = count + 1 if line else 0
        if line and cell != str(count):
            return False
    return True


def _repeat(lines: list[str], cutter: Cutter) -> bool:
    """Say whether the first cells of lines are the same throughout each sentence, and some sentence has three words."""
    sentences: list[list[str]] = [[]]
    for line in lines:
        if line:
            sentences[-1].append(cutter.cells(line)[0])
        elif sentences[-1]:
            sentences.append([])
    return any(len(cells) > 2 for cells in sentences) and all(len(set(cells)) < 2 for cells in sentences)


def _without_odd_openings(lines: list[WordLine], cutter: Cutter, path: Path) -> list[WordLine]:
    """Leave out lines `# x` that open sentences and are as wide as others, but have a tag that no other line has."""
    sentences = [-1, *(line.sentence for line in lines)]
    opens = [line.cells[0].startswith("#") and line.sentence != sentences[n] for n, line in enumerate(lines)]
    if cutter.separator == "\t" or not any(opens):
        return lines
    tags = {line.cells[-1] for line, odd in zip(lines, opens, strict=True) if not odd}
    every = zip(lines, opens, strict=True)
    kept = [line for line, odd in every if not (odd and line.cells[0] == "#" and line.cells[-1] not in tags)]
    if len(kept) < len(lines):
        note(f"{path}: {len(lines) - len(kept):,} lines `# ...` with a tag of their own are skipped as comments too")
    return kept


def is_conll(path: Path) -> bool:
    """Say whether a file has the name of a CoNLL file."""
    return plain_suffix(path) in SUFFIXES


def stream_sentences(
    path: Path, word_column: str | None = None, encoding: str | None = None
) -> Iterator[tuple[int, PreTokenized]]:
    """Yield the line each sentence of a CoNLL file begins on, and its words; there may be no tags.

    The words are in the first column, or that of the number `word_column`. Raises CorpusError where the file is
    missing, ragged or no text, naming the line, and UsageError where there is no such column.
    """
    _refuse_missing(path)
    cutter = _cutter_of(_lines(path, encoding), path)
    if cutter is None:
        return
    column = cutter.words(word_column, path=path)
    for _, group in groupby(_word_lines(_lines(path, encoding), cutter, path), key=lambda line: line.sentence):
        lines = list(group)
        yield lines[0].number, PreTokenized(line.cells[column] for line in lines)


def _cutter_of(every: Iterable[tuple[int, str]], path: Path) -> Cutter | None:
    """Return what cuts the lines of a file, by the first that hold words; None where none does."""
    comments: list[str] = []
    lines = (line for _, line in every)
    for line in lines:
        if line and not line.startswith("#"):
            return Cutter.of_lines([line, *islice(lines, START_LINES - 1)], commas=_commas(path))
        if len(comments) < START_LINES:
            comments.append(line)
    return Cutter.of_lines(comments, commas=_commas(path)) if any(comments) else None


def _word_lines(
    every: Iterable[tuple[int, str]], cutter: Cutter, path: Path, *, tagged: bool = False
) -> Iterator[WordLine]:
    """Yield each line that holds a word; if words are to be `tagged`, what is skipped is noted.

    Raises CorpusError for a line of other columns than the first ones, or of one column where tags are wanted.
    """
    sentence, opens, comments, named = 0, True, 0, not cutter.names
    for number, line in every:
        if not line:
            sentence, opens = sentence + 1, True
            continue
        cells = cutter.cells(line)
        if cutter.is_comment(line, len(cells), opens=opens):
            opens, comments = True, comments + 1
            continue
        opens = False
        if cutter.numbered and RANGE.fullmatch(cells[0]):
            continue
        if len(cells) != cutter.width or (tagged and cutter.width < 2):
            expected = f"{cutter.width} as before" if cutter.width > 1 else "a word and its tag"
            raise CorpusError(
                f"{path} line {number:,} has {len(cells)} columns where {expected} were expected: {line[:60]!r}; fix "
                "that line"
            )
        if named:
            yield WordLine(number, sentence, cells)
        elif tagged:
            note(f"{path}: its first line ({', '.join(cutter.names)[:60]}) is taken for the names of its columns")
        named = True
    if tagged and comments:
        note(f"{path}: {comments:,} lines that begin with # are skipped as comments")


def _refuse_missing(path: Path) -> None:
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")


def _lines(path: Path, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file with their numbers, read a block at a time."""
    blocks = require_text(read_blocks(path, encoding), path)
    return _numbered(line for block in blocks for line in block.data.decode().removesuffix("\n").split("\n"))


def _numbered(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield lines with their numbers from 1, empty for one that stands between sentences."""
    for number, line in enumerate(lines, start=1):
        yield number, "" if not line.strip() or line.startswith(DOCUMENT) else line
