"""Turns a CoNLL file (a word a line, its tag last, a blank line between sentences) into words and tags.

Lines of comments (`# id 7`, `#begin document`) and a first line that names the columns are skipped, and that is noted.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.inputs import COMPRESSIONS, read_blocks, read_whole
from bertwright.corpus.layouts import fault_in
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.columns import SINGLES
from bertwright.tasks.running_words import GivenWords
from bertwright.tasks.stream import checked
from bertwright.tasks.tag_columns import TAGS, WORDS, TaggedWords

DOCUMENT = "-DOCSTART-"
"""The word of a line that stands between documents (CoNLL-2003)."""
SUFFIXES = (".conll", ".conllu", ".conllx", ".iob", ".iob2", ".bio", ".bioes")
BLANKS = " \t\n\v\f\r"
"""What stands around words; no-break spaces may be words."""
BRAT = re.compile(r"T\d+\t\S+ \d+ \d+")
"""A line of brat's .ann files."""


@dataclass(frozen=True)
class Cutter:
    """How the lines of a file are cut into cells: at tabs, commas or blanks; `width` cells each.

    `names` are those of the columns, in capitals or not, where the first line names them.
    """

    separator: str
    width: int
    names: tuple[str, ...] = ()

    @classmethod
    def of_line(cls, line: str, *, commas: bool) -> Cutter:
        """Return what cuts a file whose first line with words is `line`; `commas` where its name says .csv."""
        separator = "\t" if "\t" in line else "," if commas and "," in line else " "
        cells = cls(separator, 0).cells(line)
        lower = tuple(cell.strip().lower() for cell in cells)
        named = len(lower) > 1 and lower[0] in (*WORDS, *SINGLES) and lower[-1] in TAGS
        return cls(separator, len(cells), tuple(cell.strip() for cell in cells) if named else ())

    def cells(self, line: str) -> list[str]:
        """Return the cells of a line."""
        if self.separator == "\t":
            return line.rstrip(BLANKS).split("\t")
        if self.separator == ",":
            return next(csv.reader([line.rstrip(BLANKS)]), [""])
        return re.split(r"[ \t]+", line.strip(BLANKS))

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


def read_conll(path: Path, *, word_column: str | None = None, tag_column: str | None = None) -> TaggedWords:
    """Return the words of a CoNLL file, columns cut at tabs or else at blanks (at commas in .csv), parsed at once.

    Columns are numbers from 1; without them the first holds the words and the last the tags. Raises CorpusError where
    the file is missing, empty or ragged, naming the line, and UsageError where there is no such column.
    """
    every, held, sentence_of = _word_lines(path)
    lines = every.take(pa.array(held))
    first = _first_line(lines)
    if BRAT.match(first):
        raise CorpusError(f"{path} is a file of brat, which is not read; export CoNLL, a word and its tag a line")
    cutter = Cutter.of_line(first, commas=_commas(path))
    cells = _cells_of(lines, cutter, path)
    widths = pc.list_value_length(cells).to_numpy(zero_copy_only=False)
    kept = _without_comments(lines, cells, widths, cutter, sentence_of, path)
    lines, cells, widths, held, sentence_of = (
        lines.filter(pa.array(kept)), cells.filter(pa.array(kept)), widths[kept], held[kept], sentence_of[kept],
    )  # fmt: skip
    if not len(held):
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    _refuse_ragged(path, lines, widths, held, width=cutter.width)
    words = pc.list_element(cells, cutter.column(word_column, path=path, usual=0))
    tags = pc.list_element(cells, cutter.column(tag_column, path=path, usual=cutter.width - 1))
    tags = pc.utf8_trim_whitespace(tags).dictionary_encode()
    return TaggedWords(
        path=path,
        words=words.to_pylist(),
        names=tags.dictionary.to_pylist(),
        tags=tags.indices.to_numpy().astype(np.int64),
        counts=np.unique(sentence_of, return_counts=True)[1].astype(np.int64),
        lines=held + 1,
    )


def has_words_alone(path: Path) -> bool:
    """Return whether the lines at the start of a CoNLL file hold one word each, and no tag."""
    for block in checked(read_blocks(path), path):
        lines = [line.strip(BLANKS) for line in block.data.decode().split("\n")]
        held = [line for line in lines if line and not line.startswith((DOCUMENT, "#"))]
        return bool(held) and not any(re.search(r"[ \t,]", line) for line in held)
    return False


def _commas(path: Path) -> bool:
    return ".csv" in (suffix.lower() for suffix in path.suffixes[-2:])


def _first_line(lines: pa.StringArray) -> str:
    """Return the first line that does not begin with #, or the first where all do."""
    plain = lines.filter(pc.invert(pc.starts_with(lines, "#")))
    first: str = (plain if len(plain) else lines)[0].as_py()
    return first


def _cells_of(lines: pa.StringArray, cutter: Cutter, path: Path) -> pa.ListArray:
    # Only what ASCII calls blank: a word may be a no-break space.
    if cutter.separator == "\t":
        return pc.split_pattern(pc.ascii_rtrim_whitespace(lines), "\t")
    if cutter.separator == " ":
        return pc.split_pattern_regex(pc.ascii_trim_whitespace(lines), r"[ \t]+")
    try:
        return pa.array([cutter.cells(line) for line in lines.to_pylist()], pa.list_(pa.string()))
    except csv.Error as error:
        raise CorpusError(f"{path} cannot be read as words and tags with commas between ({error}); fix it") from error


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
    for place in _odd_openings(lines, cells, [place for place in marked if kept[place] and opens[place]], cutter):
        kept[place] = False
    if len(kept) > kept.sum():
        note(f"{path}: {len(kept) - int(kept.sum()):,} lines that begin with # are skipped as comments")
    if cutter.names:
        names = int(np.flatnonzero(kept)[0])
        note(f"{path}: its first line ({', '.join(cutter.names)[:60]}) is taken for the names of its columns")
        kept[names] = False
    return kept


def _odd_openings(lines: pa.StringArray, cells: pa.ListArray, places: list[int], cutter: Cutter) -> list[int]:
    """Return which of some lines `# x`, that open sentences and are as wide as others, have a tag that no other has."""
    if not places or cutter.separator == "\t":
        return []
    others = np.ones(len(lines), dtype=bool)
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
    plain = path.with_suffix("") if path.suffix.lower() in COMPRESSIONS else path
    return plain.suffix.lower() in SUFFIXES


def stream_sentences(path: Path, word_column: str | None = None) -> Iterator[tuple[int, GivenWords]]:
    """Yield the line each sentence of a CoNLL file begins on, and its words; there may be no tags.

    The words are in the first column, or that of the number `word_column`. Raises CorpusError where the file is
    missing, ragged or no text, naming the line, and UsageError where there is no such column.
    """
    first = next((line for _, line in _lines(path) if line and not line.startswith("#")), None)
    first = first or next((line for _, line in _lines(path) if line), None)
    if first is None:
        return
    cutter = Cutter.of_line(first, commas=_commas(path))
    column = cutter.column(word_column, path=path, usual=0)
    words: list[str] = []
    begun = 0
    for number, cells in islice(_word_cells(path, cutter), bool(cutter.names), None):
        if not cells and words:
            yield begun, GivenWords(words)
            words = []
        if not cells:
            continue
        begun = begun if words else number
        words.append(cells[column])
    if words:
        yield begun, GivenWords(words)


def _word_cells(path: Path, cutter: Cutter) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and cells of each line that holds a word, no cells for one that stands between sentences."""
    opens, begun = True, False
    for number, line in _lines(path):
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


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number of each line and the line, empty for one that stands between sentences."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    number = 0
    for block in checked(read_blocks(path), path):
        for line in block.data.decode().removesuffix("\n").split("\n"):
            number += 1
            yield number, "" if not line.strip() or line.startswith(DOCUMENT) else line


def _word_lines(path: Path) -> tuple[pa.StringArray, np.ndarray, np.ndarray]:
    """Return all lines, the places of those that hold something, and the number of the sentence each of these is in."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a CoNLL file that exists")
    data = read_whole(path)
    fault = fault_in(data)
    if fault is not None:
        raise CorpusError(f"{path} is not UTF-8 text at byte {fault:,}; convert it to UTF-8")
    every = pc.split_pattern(pa.array([data.decode()]), "\n").flatten()
    between = pc.or_(pc.equal(pc.utf8_trim_whitespace(every), ""), pc.starts_with(every, DOCUMENT))
    breaks = between.to_numpy(zero_copy_only=False)
    held = np.flatnonzero(~breaks)
    if not len(held):
        raise CorpusError(f"{path} holds no words; give a CoNLL file: a word and its tag a line")
    return every, held, np.cumsum(breaks)[held]
