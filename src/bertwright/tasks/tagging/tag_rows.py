"""Turns a table about words (JSON lines, Parquet, CSV) into words and their tags, or into questions for a tagger."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.corpus.readers.cells import cell_words, tags_of
from bertwright.errors import CorpusError
from bertwright.log import note
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.tagging.entity_spans import TextTagger
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.tag_columns import TagColumns, TaggedWords, are_words, find_tag_columns

SAMPLE = 200
"""Rows by which the columns are recognised."""
Row = tuple[int, Mapping[str, Any]]
"""The number of a row, from 1, and its cells by the names of their columns."""
Source = Callable[[Collection[str] | None], Iterator[Row]]
"""Gives the rows of a table from the first, with some of its columns at least, or with all of them."""
Sentence = tuple[int, list[str], list[str]]
"""The number of its (first) row, its words and their tags."""


def tagged_rows(
    path: Path, source: Source, given: ColumnsConfig, *, names: Mapping[str, tuple[str, ...]] | None = None
) -> TaggedWords:
    """Return the words and tags of the rows of a table; rows without words are counted and left out.

    `names` are those of the numbers of a column, by column, where the file has them.

    Raises CorpusError naming the row where words and tags do not fit each other, and UsageError for columns that are
    not there.
    """
    columns = columns_of_rows(path, source, given, labelled=True)
    words: list[str] = []
    counts: list[int] = []
    numbers: list[int] = []
    index: dict[str, int] = {}
    tags: list[int] = []
    empty = 0
    for number, some, their in _sentences(path, source(columns.names), columns):
        if not some:
            empty += 1
            continue
        if len(some) != len(their):
            raise CorpusError(
                f"{path} row {number:,} has {len(some):,} words in {columns.first} and {len(their):,} tags in "
                f"{columns.tags}; give a tag for each word"
            )
        words += some
        tags += [index.setdefault(tag, len(index)) for tag in their]
        counts.append(len(some))
        numbers.append(number)
    if empty:
        note(f"{path}: {empty:,} rows have no words and were left out")
    if not words:
        raise CorpusError(f"{path} holds no words; give a file of words and their tags")
    return TaggedWords(
        path=path,
        words=words,
        names=list(index),
        tags=np.array(tags, dtype=np.int64),
        counts=np.array(counts, dtype=np.int64),
        lines=np.repeat(np.array(numbers, dtype=np.int64), counts),
        unit="row",
        label_names=(names or {}).get(columns.tags or ""),
    )


def questions_of_rows(path: Path, source: Source, given: ColumnsConfig) -> Iterator[tuple[str, ...]] | None:
    """Return what each row asks of a tagger: its words as they are cut, or its text; None where it has one text alone.

    Rows of a word each are one question a sentence. Tags need not be there, and are passed over.
    """
    columns = columns_of_rows(path, source, given, labelled=False)
    if columns.shape == "text":
        return None
    return _questions(path, source(columns.names), columns)


def _questions(path: Path, rows: Iterator[Row], columns: TagColumns) -> Iterator[tuple[str, ...]]:
    if columns.shape == "words":
        yield from (PreTokenized(words) for _, words, _ in _word_rows(path, rows, columns))
        return
    for number, row in rows:
        if columns.shape == "spans":
            yield (_text(path, number, row, columns.first),)
            continue
        words = _words(path, number, row, columns)
        yield PreTokenized(words) if words else ("",)


def columns_of_rows(path: Path, source: Source, given: ColumnsConfig, *, labelled: bool) -> TagColumns:
    """Return the columns of a table, by its first rows; raises as `find_tag_columns` does."""
    first = [row for _, row in islice(source(None), SAMPLE)]
    if not first:
        raise CorpusError(f"{path} is empty; give a file with words and their tags")
    return find_tag_columns(path, first, given, labelled=labelled)


def _sentences(path: Path, rows: Iterator[Row], columns: TagColumns) -> Iterator[Sentence]:
    """Yield the number, words and tags of each sentence."""
    if columns.shape == "words":
        if columns.begins is None:
            raise CorpusError(
                f"{path} has a word a row, and no column such as sentence_id that says where sentences begin; add one, "
                "or put a blank line between sentences"
            )
        yield from _word_rows(path, rows, columns)
        return
    tagger = TextTagger(path)
    assert columns.tags is not None
    for number, row in rows:
        if columns.shape == "spans":
            text = _text(path, number, row, columns.first)
            entities = row.get(columns.tags) or []
            if not isinstance(entities, list):
                raise CorpusError(f"{path} row {number:,} has no list in {columns.tags}; give a list of entities")
            words, tags = tagger.tag(number, text, entities) if text.strip() or entities else ([], [])
        else:
            words = _words(path, number, row, columns)
            tags = _tags(path, number, row.get(columns.tags), columns, count=len(words))
        yield number, words, tags
    tagger.report()


def _word_rows(path: Path, rows: Iterator[Row], columns: TagColumns) -> Iterator[Sentence]:
    """Yield the sentences of a table of a word a row: a new one begins where the cell of `begins` changes."""
    words: list[str] = []
    tags: list[str] = []
    begun, before = 1, None
    for number, row in rows:
        cell = row.get(columns.begins) if columns.begins else None
        if cell not in (None, "") and cell != before:
            if words:
                yield begun, words, tags
            words, tags, begun, before = [], [], number, cell
        words.append(_text(path, number, row, columns.first).strip())
        tags += _tags(path, number, row.get(columns.tags), columns, count=1) if columns.tags else []
        if columns.tags and len(tags) != len(words):
            raise CorpusError(f"{path} row {number:,} has no tag in {columns.tags}, or several; give one")
    if words:
        yield begun, words, tags


def _text(path: Path, number: int, row: Mapping[str, Any], column: str) -> str:
    cell = row.get(column)
    if cell is not None and not isinstance(cell, str):
        raise CorpusError(f"{path} row {number:,} has no text in {column} ({str(cell)[:40]}); give a text")
    return cell or ""


def _words(path: Path, number: int, row: Mapping[str, Any], columns: TagColumns) -> list[str]:
    cell = row.get(columns.first)
    if isinstance(cell, str) and columns.shape == "strings":
        return cell_words(cell)
    if cell is not None and not (isinstance(cell, list) and are_words(cell)):
        raise CorpusError(f"{path} row {number:,} has no list of words in {columns.first} ({str(cell)[:40]}); fix it")
    return [word if type(word) is str else str(word) for word in cell or []]


def _tags(path: Path, number: int, cell: Any, columns: TagColumns, *, count: int) -> list[str]:
    """Return the tags of a cell, blanks at their ends left out; raises CorpusError where it holds something else."""
    if isinstance(cell, str):
        cell = tags_of(cell, count)
    if cell is None:
        cell = []
    found = [tag.strip() if type(tag) is str else _tag(tag) for tag in cell] if isinstance(cell, list) else [""]
    if not all(found):
        raise CorpusError(
            f"{path} row {number:,} has no list of tags in {columns.tags} ({str(cell)[:40]}); give a name or a whole "
            "number for each word"
        )
    return found


def _tag(value: Any) -> str:
    """Return a tag as text, the empty text where it is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() if isinstance(value, str | int) and not isinstance(value, bool) else ""
