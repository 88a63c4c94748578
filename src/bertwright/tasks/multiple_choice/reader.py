"""Turns a table of questions with choices into contexts, endings and which one is right; SWAG's columns or a list.

The choices stand in numbered columns (ending0 to ending3, choice1 and choice2, A to D) or in one column of lists; how
many there are may differ. What the choices go on from may be cut in two, as in SWAG: `sent1` is the context, and
`sent2` the start of every ending.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa

from bertwright.corpus.readers.cells import are_written_lists, as_label, as_text, as_texts, kind_of, list_items
from bertwright.corpus.readers.table import open_table
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.columns import ColumnsConfig, by_lower_name, first_known, refuse_empty, refuse_missing_columns
from bertwright.tasks.examples import BETWEEN, Examples
from bertwright.tasks.unlabelled import are_no_labels
from bertwright.tokenizer.ragged import ranges

CONTEXTS = ("sent1", "context", "article", "passage", "premise", "story", "text", "sentence", "ctx", "question")
STARTS = ("sent2", "question", "start")
"""Names of the start of every ending, where a context of another name is there too."""
ANSWERS = ("label", "answer", "correct", "gold", "target", "answerkey")
LISTS = ("choices", "endings", "options", "answers")
NUMBERED = re.compile(r"(?:ending|choice|option|answer|alternative|hypothesis|sol)[_ ]?(\d+)", re.IGNORECASE)
LETTERED = re.compile(r"[A-Z]")


@dataclass(frozen=True)
class Choices(Examples):
    """N questions with R choices in all.

    contexts [N]        texts
    starts   [N]        what stands before each choice of a question; empty where nothing does
    choices  [R]        texts, question after question
    counts   [N] int64  choices of each question
    right    [N] int64  which of them is right, from 0; -1 where nobody knows
    """

    contexts: list[str]
    starts: list[str]
    choices: list[str]
    counts: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        """Return N."""
        return len(self.contexts)

    def keys(self) -> list[str]:
        """Return each question with its choices."""
        ends = np.cumsum(self.counts).tolist()
        begun = zip(self.contexts, self.starts, [0, *ends[:-1]], ends, strict=True)
        return [BETWEEN.join((context, start, *self.choices[begin:end])) for context, start, begin, end in begun]

    def groups(self) -> list[str]:
        """Return the context of each question: those about one stay on one side of a split."""
        return self.contexts

    def take(self, places: np.ndarray) -> Self:
        """Return the questions at `places`, in that order."""
        counts, chosen = self.counts[places], places.tolist()
        at = ranges(np.cumsum(self.counts)[places] - counts, counts)
        return replace(
            self,
            contexts=[self.contexts[place] for place in chosen],
            starts=[self.starts[place] for place in chosen],
            choices=[self.choices[place] for place in at.tolist()],
            counts=counts,
            right=self.right[places],
        )

    def pairs(self) -> tuple[list[str], list[str]]:
        """Return the first and second text of the row of each choice, [R] each."""
        owner = np.repeat(np.arange(len(self)), self.counts).tolist()
        seconds = zip(owner, self.choices, strict=True)
        return [self.contexts[one] for one in owner], [f"{self.starts[one]} {text}".strip() for one, text in seconds]

    def questions(self) -> list[tuple[str, ...]]:
        """Return the context of each question and its choices, what stands before each of them included."""
        begun = zip(self.contexts, self.starts, strict=True)
        return [
            (context, *(f"{start} {text}".strip() for text in self.of(place)))
            for place, (context, start) in enumerate(begun)
        ]

    def of(self, place: int) -> list[str]:
        """Return the choices of one question."""
        end = int(self.counts[: place + 1].sum())
        return self.choices[end - int(self.counts[place]) : end]


def open_choices(path: Path, given: ColumnsConfig) -> tuple[dict[str, pa.ChunkedArray], str | None]:
    """Return the columns of a table of questions, and the one of the right choice: given, or found by its name."""
    names = frozenset((*CONTEXTS, *STARTS, *ANSWERS, *LISTS))
    table = open_table(path, names=names, given=given.names(), encoding=given.encoding)
    columns = {str(name): table.column(place) for place, name in enumerate(table.column_names)}
    return columns, given.label or first_known(_plain(columns), ANSWERS)


def read_choices(path: Path, given: ColumnsConfig, *, labelled: bool = True) -> Choices:
    """Return the questions of a table (.csv, .tsv, .jsonl, .parquet); raises CorpusError where it is none of choices.

    `given` names the columns of the context, of the start of every ending (`pair`) and of the right choice, where their
    names do not say it. Without `labelled` the right choices are not looked for.
    """
    columns, label = open_choices(path, given)
    refuse_missing_columns(path, columns, given.names())
    lower = by_lower_name(columns)
    choices, numbers = _choices_of(columns, lower, path)
    context = given.text or first_known(_plain(columns), CONTEXTS)
    if context is None or (label is None and labelled):
        raise CorpusError(
            f"cannot tell which column of {path} is the context and which the right choice (its columns are "
            f"{', '.join(columns)}); name them with --text-column and --label-column"
        )
    start = given.pair or next((lower[name] for name in STARTS if lower.get(name, context) != context), None)
    contexts = as_texts(columns[context])
    refuse_empty(path, context, contexts)
    right = np.full(len(choices), -1, dtype=np.int64)
    if labelled and label is not None:
        right = _right(list(map(as_label, as_texts(columns[label]))), choices, numbers, path)
    return Choices(
        path=path,
        contexts=contexts,
        starts=[""] * len(choices) if start is None else as_texts(columns[start]),
        choices=[text for row in choices for text in row],
        counts=np.array([len(row) for row in choices], dtype=np.int64),
        right=right,
    )


def lacks_right(path: Path, given: ColumnsConfig) -> bool:
    """Return whether a table of questions does not say which choice is right: no column of it, or nothing in it."""
    columns, label = open_choices(path, given)
    return label not in columns or are_no_labels(as_texts(columns[str(label)]))


def choices_of_questions(questions: Sequence[tuple[str, ...]]) -> Choices:
    """Return (context, choice, choice, ...) as questions whose right choice nobody knows; raises UsageError."""
    if any(len(question) < 3 for question in questions):
        raise UsageError(
            "this model chooses between endings of a context: give lines `context TAB ending TAB ending ...` with "
            "--input, or a .jsonl, .csv, .tsv or .parquet file of them"
        )
    return Choices(
        path=Path("questions"),
        contexts=[question[0] for question in questions],
        starts=[""] * len(questions),
        choices=[choice for question in questions for choice in question[1:]],
        counts=np.array([len(question) - 1 for question in questions], dtype=np.int64),
        right=np.full(len(questions), -1, dtype=np.int64),
    )


def _plain(columns: dict[str, pa.ChunkedArray]) -> dict[str, str]:
    """Return the names of the columns that hold neither lists nor objects, by their lower case."""
    lower = by_lower_name(columns)
    return {key: name for key, name in lower.items() if kind_of(columns[name].type) not in ("list", "object")}


def _choices_of(
    columns: dict[str, pa.ChunkedArray], lower: dict[str, str], path: Path
) -> tuple[list[list[str]], list[str]]:
    """Return the choices of each question, and what its columns call them; raises CorpusError."""
    lists = next((lower[name] for name in LISTS if name in lower and _is_list(columns[lower[name]])), None)
    if lists is not None:
        choices = [[as_text(text) for text in row] for row in _lists_of(columns[lists])]
        numbers: list[str] = []
    else:
        numbered = {name: found[1] for name in columns if (found := NUMBERED.fullmatch(name.strip()))}
        named = numbered or {name: name for name in columns if LETTERED.fullmatch(name.strip())}
        in_order = sorted(named, key=lambda name: (len(named[name]), named[name]))
        numbers = [named[name] for name in in_order]
        cells = zip(*(as_texts(columns[name]) for name in in_order), strict=True) if in_order else ()
        choices = [_without_empty_end(row) for row in cells]
    few = next((place for place, row in enumerate(choices) if len(row) < 2 or not all(map(str.strip, row))), None)
    if not choices or few is not None:
        where = f"row {few + 1:,} of {path} has fewer than two choices, or an empty one" if few is not None else path
        raise CorpusError(
            f"{where}: expected columns such as ending0, ending1, ... or a list in `choices`; "
            f"its columns are {', '.join(columns)}"
        )
    return choices, numbers


def _is_list(column: pa.ChunkedArray) -> bool:
    return kind_of(column.type) == "list" or are_written_lists(as_texts(column))


def _lists_of(column: pa.ChunkedArray) -> list[list[Any]]:
    """Return a column of lists, or of texts that are lists as JSON or Python writes them."""
    if kind_of(column.type) == "list":
        return [row or [] for row in column.to_pylist()]
    return [list_items(cell) or [] for cell in as_texts(column)]


def _without_empty_end(row: Sequence[str]) -> list[str]:
    """Return the cells of a row up to the last that is not empty: questions may have fewer choices than columns."""
    cells = list(row)
    while cells and not cells[-1].strip():
        cells.pop()
    return cells


def _right(written: list[str], choices: list[list[str]], numbers: list[str], path: Path) -> np.ndarray:
    """Return which choice is right, by the number or letter of its column, its place from 0, or its text.

    By text only where not every row gives a place: choices may be numbers themselves.
    """
    by_column = {number.lower(): place for place, number in enumerate(numbers)}
    if not all(label.strip().lower() in by_column for label in written):
        by_column = {chr(ord("a") + place): place for place in range(26)} | {str(n): n for n in range(1000)}
    places = [by_column.get(label.strip().lower(), -1) for label in written]
    by_text = not all(0 <= place < len(texts) for place, texts in zip(places, choices, strict=True))
    right = np.zeros(len(written), dtype=np.int64)
    for row, (label, texts, place) in enumerate(zip(written, choices, places, strict=True)):
        found = texts.index(label) if by_text and label in texts else place
        if not 0 <= found < len(texts):
            raise CorpusError(
                f"{path} row {row + 1:,} (without the header) says {label[:60]!r} is right, which is none of its "
                f"{len(texts)} choices; give 0 to {len(texts) - 1}, a letter, or the text of a choice"
            )
        right[row] = found
    return right
