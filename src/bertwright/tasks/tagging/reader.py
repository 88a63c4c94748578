"""Turns a file of tagged words, whatever its form, into words and tags: CoNLL, JSON lines, Parquet, CSV.

Its first bytes say what a file is, not its name alone: JSON lines called .txt, and CoNLL called .tsv, are read as what
they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal, Self

import numpy as np

from bertwright.corpus.readers.blocks import read_decoded
from bertwright.corpus.readers.cells import BLANK, class_names
from bertwright.corpus.readers.formats import format_of
from bertwright.corpus.readers.json_rows import json_objects
from bertwright.corpus.readers.remote import size_of
from bertwright.corpus.readers.rows import TableOptions
from bertwright.corpus.readers.table import read_head, read_rows
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import SINGLES, ColumnsConfig
from bertwright.tasks.examples import Examples
from bertwright.tasks.tagging.conll import has_words_alone, is_conll, read_conll, stream_sentences
from bertwright.tasks.tagging.entity_spans import from_label_studio
from bertwright.tasks.tagging.pretokenize import PreTokenized, word_spans
from bertwright.tasks.tagging.tag_columns import BEGINNINGS, TAGS, WORDS, TaggedWords
from bertwright.tasks.tagging.tag_rows import Row, columns_of_rows, questions_of_rows, tagged_rows
from bertwright.tokenizer.ragged import ranges

Form = Literal["conll", "json", "table"]
HEAD_BYTES = 1 << 18
"""Bytes by which the form of a file is recognised."""
JSON = re.compile(r'\s*(\[\s*)?\{\s*"[^"\n]*"\s*:')
"""How JSON lines begin, and an array of objects."""
NAMES = frozenset((*WORDS, *SINGLES, *TAGS, *BEGINNINGS))


@dataclass(frozen=True)
class TaggedSentences(Examples):
    """W words of N sentences, and their tags.

    words [W] strings    counts [N] words of each sentence    targets [W] int64
    texts, spans  the running text of each sentence and the characters [W, 2] of each word in it, where they are known
    """

    words: list[str]
    counts: np.ndarray
    targets: np.ndarray
    texts: list[str] | None = None
    spans: np.ndarray | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.counts)

    def keys(self) -> list[str]:
        """Return the words of each sentence, a blank between them."""
        return [" ".join(self.words[begin:end]) for begin, end in self.bounds()]

    def bounds(self) -> list[tuple[int, int]]:
        """Return the first word of each sentence, and that after its last one."""
        ends = np.cumsum(self.counts).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))

    def take(self, places: np.ndarray) -> Self:
        """Return the sentences at `places`, in that order."""
        counts = self.counts[places]
        at = ranges(np.cumsum(self.counts)[places] - counts, counts)
        return replace(
            self,
            words=[self.words[place] for place in at.tolist()],
            counts=counts,
            targets=self.targets[at],
            texts=None if self.texts is None else [self.texts[place] for place in places.tolist()],
            spans=None if self.spans is None else self.spans[at],
        )


def sentences_of_questions(questions: Sequence[tuple[str, ...]]) -> TaggedSentences:
    """Return running texts cut into words, or sentences of given ones; raises UsageError where one is a pair."""
    if any(len(question) > 1 and not isinstance(question, PreTokenized) for question in questions):
        raise UsageError("this model tags the words of single texts; it has no use for pairs")
    texts = [" ".join(question) for question in questions]
    found = [_spans_of(question) for question in questions]
    words = [text[begin:end] for text, spans in zip(texts, found, strict=True) for begin, end in spans]
    counts = np.array([len(spans) for spans in found], dtype=np.int64)
    spans = np.array([span for spans in found for span in spans], dtype=np.int64).reshape(-1, 2)
    return TaggedSentences(Path("questions"), words, counts, np.zeros(len(words), dtype=np.int64), texts, spans)


def _spans_of(question: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the characters [begin, end) of each word: those of a running text, or given ones a blank apart."""
    if not isinstance(question, PreTokenized):
        return word_spans(question[0])
    ends = list(accumulate(len(word) + 1 for word in question))
    return [(end - 1 - len(word), end - 1) for word, end in zip(question, ends, strict=True)]


def read_tagged(
    path: Path, given: ColumnsConfig, *, label_names: Sequence[str] | None = None, known: Collection[str] = ()
) -> TaggedWords:
    """Return the words and tags of a file; tags that are numbers by their names, `label_names` where it has none.

    Where there are none either, numbers that are `known` as tags stay as they are.

    Raises CorpusError where it cannot be read as what it is, naming the line or row, and UsageError for columns that it
    does not have.
    """
    form = form_of_tags(path, given)
    if form == "conll":
        found = read_conll(path, word_column=given.text, tag_column=given.label, encoding=given.encoding)
    else:
        source = RowSource(path, form, given)
        found = tagged_rows(path, source, given, names=source.class_names())
    return found.named(given.label_names, else_by=label_names, known=known)


class RowSource:
    """The rows of a table, from the first at each call."""

    def __init__(self, path: Path, form: Form, given: ColumnsConfig) -> None:
        """Open nothing yet."""
        names = frozenset(name for name in (given.text, given.label) if name is not None)
        self.path, self.form = path, form
        self.options = TableOptions(NAMES, names, encoding=given.encoding)
        self.progress: float | None = None
        """How much of the file has been read, 0 to 1; None before that."""

    def __call__(self, columns: Collection[str] | None) -> Iterator[Row]:
        """Yield each row with its number from 1: its objects as JSON has them, else some columns, or all."""
        number, size = 0, max(1, size_of(self.path))
        for position, rows in self._pieces(columns):
            self.progress = min(1.0, position / size)
            for row in rows:
                number += 1
                yield number, row

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names that `datasets` wrote for the numbers of columns, by column."""
        if self.form == "json":
            return {}
        names = class_names(read_head(self.path, self.options).schema)
        return {name: tuple(given) for name, given in names.items()}

    def _pieces(self, columns: Collection[str] | None) -> Iterator[tuple[int, Iterable[dict[str, object]]]]:
        if self.form == "json":
            for position, objects in json_objects(self.path, self.options):
                yield position, map(from_label_studio, objects)
            return
        head = read_head(self.path, self.options)
        if not head.num_columns:
            return
        for rows in read_rows(self.path, self.options, None if columns is None else list(columns), head=head):
            yield rows.position, (row for batch in rows.table.to_batches(1024) for row in batch.to_pylist())


def questions_for_tagger(
    path: Path, given: ColumnsConfig
) -> tuple[str, Iterator[tuple[int, tuple[str, ...]]], RowSource | None] | None:
    """Return what a file asks of a tagger; None where it has texts: no words that are cut, and no entities.

    That is "line" or "row", questions with their numbers, and what knows how much has been read. Words that are cut
    stay as they are. Raises what `read_tagged` raises.
    """
    form = form_of_tags(path, given)
    if form == "conll":
        is_words = is_conll(path) or _is_words_a_line(path, given)
        return ("line", stream_sentences(path, given.text, given.encoding), None) if is_words else None
    source = RowSource(path, form, given)
    questions = questions_of_rows(path, source, given)
    return None if questions is None else ("row", enumerate(questions, start=1), source)


def lacks_tags(path: Path, given: ColumnsConfig) -> bool:
    """Return whether a file has words, or texts, and no column of tags; a damaged one does not count."""
    form = form_of_tags(path, given)
    if form == "conll":
        return has_words_alone(path, given.encoding) and questions_for_tagger(path, given) is not None
    source = RowSource(path, form, given)
    try:
        columns_of_rows(path, source, given, labelled=True)
        return False
    except UsageError:
        given = given.model_copy(update={"label": None})
    except CorpusError:
        pass
    return columns_of_rows(path, source, given, labelled=False).tags is None


def form_of_tags(path: Path, given: ColumnsConfig) -> Form:
    """Return the form of a file of tagged words; raises CorpusError where there is none."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a file of words and their tags that exists")
    kind = format_of(path)
    if kind in ("parquet", "arrow"):
        return "table"
    text = _head(path, given)
    if kind == "json" or JSON.match(text) or _is_json(text):
        return "json"
    is_table = kind in ("csv", "tsv") and not is_conll(path) and _is_table(text, given)
    return "table" if is_table else "conll"


def _head(path: Path, given: ColumnsConfig) -> str:
    data, _ = next(read_decoded(path, given.encoding), (b"", 0))
    return data[:HEAD_BYTES].decode(errors="replace").removeprefix("\ufeff")


def _is_json(text: str) -> bool:
    """Say whether the first line of a text is an array or an object of JSON that holds something."""
    try:
        return bool(json.loads(text.lstrip().split("\n", 1)[0])) and text.lstrip()[0] in "[{"
    except (ValueError, RecursionError):
        return False


def _is_table(text: str, given: ColumnsConfig) -> bool:
    """Say whether delimited text is a table: no blank lines between rows, and names or several words in its cells."""
    lines = text.strip().split("\n")[: -1 if len(text) >= HEAD_BYTES else None]
    if any(not line.strip() for line in lines):
        return False
    if any(name is not None and not name.isdecimal() for name in (given.text, given.label)):
        return True
    named = {cell.strip(' \t\r"').lower() for cell in re.split(r"[\t,;|]", lines[0])} & NAMES
    several = (len(BLANK.split(cell.strip())) for line in lines for cell in line.split("\t"))
    return bool(named) or any(count > 1 for count in several)


def _is_words_a_line(path: Path, given: ColumnsConfig) -> bool:
    """Say whether a file called otherwise is CoNLL: blank lines, and words with tabs (in .csv commas) between or alone.

    Words that all have blank lines around them are texts.
    """
    lines = [line.strip() for line in _head(path, given).strip().split("\n")]
    if all(lines):
        return False
    if has_words_alone(path, given.encoding):
        return any(line and after for line, after in pairwise(lines))
    separator = "," if format_of(path) == "csv" else "\t"
    held = [line.strip().split(separator) for line in lines[:-1] if line.strip() and line[:2] not in ("#", "# ")]
    return all(len(cells) > 1 and not any(BLANK.search(cell.strip()) for cell in cells) for cells in held)
