"""Turns a CoNLL file (a word a line, its tag last, a blank line between sentences) into words and tags.

Lines of comments (`# id 7`, `#begin document`) and a first line that names the columns are skipped, and that is noted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import dropwhile, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

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


def read_conll(
    path: Path, *, word_column: str | None = None, tag_column: str | None = None, encoding: str | None = None
) -> TaggedWords:
    """Return the words of a CoNLL file, columns cut at tabs or else at blanks (at commas in .csv), parsed at once.

    Columns are numbers from 1; without them the first holds the words and the last the tags. Raises CorpusError where
    the file is missing, empty or ragged, naming the line, and UsageError where there is no such column.
    """
    every, held, sentence_of = _word_lines(path, encoding)
    lines = every.take(pa.array(held))
    cutter = Cutter.of_lines(_start(lines, sentence_of), commas=_commas(path))
    if BRAT.match(lines[0].as_py()):
        raise CorpusError(f"{path} is a file of brat, which is not read; export CoNLL, a word and its tag a line")
    cells = _cells_of(lines, cutter)
    widths = pc.list_value_length(cells).to_numpy(zero_copy_only=False)
    kept = _without_comments(lines, cells, widths, cutter, sentence_of, path)
    lines, cells, widths, held, sentence_of = (
        lines.filter(pa.array(kept)), cells.filter(pa.array(kept)), widths[kept], held[kept], sentence_of[kept],
    )  # fmt: skip
    if not len(held):
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    _refuse_ragged(path, lines, widths, held, width=cutter.width)
    words = pc.list_element(cells, cutter.words(word_column, path=path))
    tags = pc.list_element(cells, cutter.tags(tag_column, path=path))
    tags = pc.utf8_trim_whitespace(tags).dictionary_encode()
    return TaggedWords(
        path=path,
        words=words.to_pylist(),
        names=tags.dictionary.to_pylist(),
        tags=tags.indices.to_numpy().astype(np.int64),
        counts=np.unique(sentence_of, return_counts=True)[1].astype(np.int64),
        lines=held + 1,
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


def _start(lines: pa.StringArray, sentence_of: np.ndarray) -> list[str]:
    """Return the first lines, empty ones between sentences, at least one of them without # where there is one."""
    plain = pc.index(pc.starts_with(lines, "#"), False).as_py()
    some = lines[: max(plain, 0) + START_LINES].to_pylist()
    new = np.diff(sentence_of[: len(some)], prepend=sentence_of[0]) != 0
    return [piece for line, opens in zip(some, new, strict=True) for piece in ([""] * bool(opens) + [line])]


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


def _cells_of(lines: pa.StringArray, cutter: Cutter) -> pa.ListArray:
    # Only what ASCII calls blank: a word may be a no-break space.
    if cutter.separator == "\t":
        return pc.split_pattern(pc.ascii_rtrim_whitespace(lines), "\t")
    if cutter.separator == " ":
        return pc.split_pattern_regex(pc.ascii_trim_whitespace(lines), r"[ \t]+")
    return pa.array([cutter.cells(line) for line in lines.to_pylist()], pa.list_(pa.string()))


def _without_comments(
    lines: pa.StringArray, cells: pa.ListArray, widths: np.ndarray, cutter: Cutter, sentence_of: np.ndarray, path: Path
) -> np.ndarray:
    """Return bool [L]: the lines that hold a word; comments and the names of the columns do not."""
    kept = np.ones(len(lines), dtype=bool)
    opens = np.diff(sentence_of, prepend=-1) != 0
    marked = np.flatnonzero(pc.starts_with(lines, "#").to_numpy(zero_copy_only=False)).tolist()
    for place in marked:
        first = bool(opens[place]) or (not kept[place - 1] and sentence_of[place - 1] == sentence_of[place])
        kept[place] = not cutter.is_comment(lines[place].as_py(), int(widths[place]), opens=first)
    if cutter.numbered:
        ranges = pc.match_substring_regex(pc.list_element(cells, 0), f"^{RANGE.pattern}$")
        kept &= ~ranges.to_numpy(zero_copy_only=False)
    for place in _odd_openings(lines, cells, [place for place in marked if kept[place] and opens[place]], cutter):
        kept[place] = False
    comments = len(marked) - int(kept[marked].sum())
    if comments:
        note(f"{path}: {comments:,} lines that begin with # are skipped as comments")
    if cutter.names:
        names = int(np.flatnonzero(kept)[0])
        note(f"{path}: its first line ({', '.join(cutter.names)[:60]}) is taken for the names of its columns")
        kept[names] = False
    return kept


def _odd_openings(lines: pa.StringArray, cells: pa.ListArray, places: list[int], cutter: Cutter) -> list[int]:
    """Return which of some lines `# x`, that open sentences and are as wide as others, have a tag that no other has."""
    if not places or cutter.separator == "\t":
        return []
    others = pc.equal(pc.list_value_length(cells), cutter.width).to_numpy(zero_copy_only=False).copy()
    others[places] = False
    tags = set(pc.list_element(cells.filter(pa.array(others)), cutter.width - 1).to_pylist()) if others.any() else set()
    return [place for place in places if cells[place].as_py()[0] == "#" and cells[place].as_py()[-1] not in tags]


def _refuse_ragged(path: Path, lines: pa.StringArray, widths: np.ndarray, held: np.ndarray, *, width: int) -> None:
    odd = np.flatnonzero(widths != width)
    if width > 1 and not len(odd):
        return
    place = int(odd[0]) if width > 1 else 0
    expected = f"{width} as before" if width > 1 else "a word and its tag"
    raise CorpusError(
        f"{path} line {held[place] + 1:,} has {widths[place]} columns where {expected} were expected: "
        f"{lines[place].as_py()[:60]!r}; fix that line"
    )


def is_conll(path: Path) -> bool:
    """Say whether a file's name tells CoNLL."""
    return plain_suffix(path) in SUFFIXES


def stream_sentences(
    path: Path, word_column: str | None = None, encoding: str | None = None
) -> Iterator[tuple[int, PreTokenized]]:
    """Yield the line each sentence of a CoNLL file begins on, and its words; there may be no tags.

    The words are in the first column, or that of the number `word_column`. Raises CorpusError where the file is
    missing, ragged or no text, naming the line, and UsageError where there is no such column.
    """
    every = (line for _, line in _lines(path, encoding))
    start = list(islice(dropwhile(lambda line: not line or line.startswith("#"), every), START_LINES))
    start = start or [line for _, line in islice(_lines(path, encoding), START_LINES)]
    if not any(start):
        return
    cutter = Cutter.of_lines(start, commas=_commas(path))
    column = cutter.words(word_column, path=path)
    words: list[str] = []
    begun = 0
    for number, cells in islice(_word_cells(path, cutter, encoding), bool(cutter.names), None):
        if not cells and words:
            yield begun, PreTokenized(words)
            words = []
        if not cells or (cutter.numbered and RANGE.fullmatch(cells[0])):
            continue
        begun = begun if words else number
        words.append(cells[column])
    if words:
        yield begun, PreTokenized(words)


def _word_cells(path: Path, cutter: Cutter, encoding: str | None) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each line that holds a word, no cells for one that stands between sentences."""
    opens, begun = True, False
    for number, line in _lines(path, encoding):
        if not line:
            opens = True
            if begun:
                yield number, []
            continue
        cells = cutter.cells(line)
        if cutter.is_comment(line, len(cells), opens=opens):
            continue
        if len(cells) != cutter.width:
            raise CorpusError(
                f"{path} line {number:,} has {len(cells)} columns where {cutter.width} as before were expected; fix "
                "that line"
            )
        opens, begun = False, True
        yield number, cells


def _lines(path: Path, encoding: str | None) -> Iterator[tuple[int, str]]:
    """Yield the number of each line and the line, empty for one that stands between sentences."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    number = 0
    for block in require_text(read_blocks(path, encoding), path):
        for line in block.data.decode().removesuffix("\n").split("\n"):
            number += 1
            yield number, "" if not line.strip() or line.startswith(DOCUMENT) else line


def _word_lines(path: Path, encoding: str | None) -> tuple[pa.StringArray, np.ndarray, np.ndarray]:
    """Return all lines, the places of those that hold something, and the number of the sentence each of these is in."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    every = pc.split_pattern(pa.array([read_text(path, encoding)]), "\n").flatten()
    between = pc.or_(pc.equal(pc.utf8_trim_whitespace(every), ""), pc.starts_with(every, DOCUMENT))
    breaks = between.to_numpy(zero_copy_only=False)
    held = np.flatnonzero(~breaks)
    if not len(held):
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    return every, held, np.cumsum(breaks)[held]
