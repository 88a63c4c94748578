"""Turns a file into what it asks, one question after another, each with where it stands: lines, rows or sentences.

What a file is, its suffix says: lines of text (a tab between the texts of a pair), a table, CoNLL, or SQuAD json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from bertwright.corpus.readers.formats import format_of, is_table
from bertwright.corpus.readers.lines import STDIN
from bertwright.corpus.readers.table import TableStream
from bertwright.errors import CorpusError, UsageError
from bertwright.inference.inputs_of_predict import Identified, Lines, Located
from bertwright.tasks.columns import PAIRS, QUESTIONS, TOGETHER, ColumnsConfig, find_texts
from bertwright.tasks.multiple_choice.reader import read_choices
from bertwright.tasks.question_answering.reader import squad_questions
from bertwright.tasks.stream import stream_options
from bertwright.tasks.tagging.conll import is_conll
from bertwright.tasks.tagging.reader import asked_of_tagger

PAIR_NAMES = {"vector": TOGETHER, "span": QUESTIONS}
"""Names of the columns of a pair, by what a head is about; elsewhere PAIRS."""


class ReadsFile(Protocol):
    """What knows how much of a file has been read."""

    @property
    def progress(self) -> float | None:
        """How much has been read, 0 to 1; None where nobody knows."""


class InputFile:
    """What a file asks of a model: where each question stands, and its texts.

    >>> list(InputFile(Path("pairs.csv"), part="row", pairs=True))  # needs a file  # doctest: +SKIP
    [('pairs.csv, row 1', ('It rains.', 'It pours.'))]
    """

    def __init__(
        self, file: Path, *, part: str | None, pairs: bool | None = None, told: ColumnsConfig | None = None
    ) -> None:
        """Open nothing yet; `part` and `pairs` are of the model, `told` are columns of a table."""
        self.file, self.part, self.pairs, self.told = file, part, pairs, told or ColumnsConfig()
        self.reader: ReadsFile | None = None

    @property
    def progress(self) -> float | None:
        """How much of the file has been read, 0 to 1; None where nobody knows."""
        return None if self.reader is None else self.reader.progress

    def __iter__(self) -> Iterator[Located]:
        """Yield the questions; raises CorpusError where the file cannot be read or asks nothing."""
        place = "<stdin>" if self.file == STDIN else str(self.file)
        unit, asked = self._open()
        number = 0
        for number, texts in asked:
            yield f"{place}, {unit} {number:,}", texts
        if not number:
            raise CorpusError(f"{place} is empty; give a file with a text a line, or a table of texts")

    def _open(self) -> tuple[str, Iterable[tuple[int, tuple[str, ...]]]]:
        """Return what the questions of the file are called, and those with their numbers."""
        if self.file != STDIN and is_conll(self.file) and self.part != "token":
            raise UsageError(f"{self.file} is a CoNLL file of words, about which only a model that tags is asked")
        asked = asked_of_tagger(self.file, self.told) if self.part == "token" and self.file != STDIN else None
        if asked is not None:
            unit, questions, self.reader = asked
            return unit, questions
        if self.part == "span" and ".json" in self.file.suffixes:
            return "question", enumerate(map(Identified, squad_questions(self.file, self.told.encoding)), start=1)
        if self.file != STDIN and is_table(self.file):
            return "row", enumerate(self._choices() if self.part == "choice" else self._rows(), start=1)
        if self.told.names():
            raise UsageError(f"{self.file} holds a text a line and has no columns; leave --text-column out")
        if self.file != STDIN and format_of(self.file) not in ("txt", "md", None):
            raise CorpusError(f"{self.file} cannot be asked; give .txt, .tsv, .csv, .jsonl or .parquet")
        self.reader = lines = Lines(self.file, self.told.encoding)
        return "line", ((number, tuple(line.split("\t"))) for number, line in lines)

    def _choices(self) -> Iterable[tuple[str, ...]]:
        return read_choices(self.file, self.told, labelled=False).questions()

    def _rows(self) -> Iterator[tuple[str, ...]]:
        names = PAIR_NAMES.get(self.part or "", PAIRS)
        stream = TableStream(
            self.file,
            lambda start: find_texts(start.table, self.told, pairs=self.pairs, names=names),
            stream_options(*self.told.names(), encoding=self.told.encoding),
        )
        self.reader = stream
        for columns in stream:
            yield from zip(*columns, strict=True)
