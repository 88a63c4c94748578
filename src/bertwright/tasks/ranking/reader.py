"""Turns a table of queries, passages and their grades into examples, and queries with passages into questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.classification.reader import Texts, numbers_of
from bertwright.tasks.columns import LABELS, SENTENCES, TOGETHER, Columns, ColumnsConfig, find_columns

RELEVANCE = ("relevance", "label", "labels", "relevant", "rel", "grade", "score", "target", "gold_label")
"""Names of the column that says how relevant a passage is, in the order they are looked for."""
NAMES = frozenset((*SENTENCES, *RELEVANCE, *LABELS))


@dataclass(frozen=True)
class Passages(Texts):
    """N passages, each with its query: `first` holds queries, `second` passages, `targets` grades, float32 [N].

    counts  passages of each question, one after another, where these are questions; None for the rows of a file, whose
            equal queries belong together wherever they stand
    """

    counts: np.ndarray | None = None

    def groups(self) -> list[str]:
        """Return the query of each row: its passages stay on one side of a split."""
        return self.first

    def query_numbers(self) -> np.ndarray:
        """Return the number of the query of each row, int64 [N], from 0."""
        if self.counts is not None:
            return np.repeat(np.arange(len(self.counts)), self.counts)
        numbers = {query: number for number, query in enumerate(dict.fromkeys(self.first))}
        return np.fromiter((numbers[query] for query in self.first), dtype=np.int64, count=len(self.first))


def open_passages(path: Path, given: ColumnsConfig) -> tuple[Table, Columns]:
    """Return a table of queries and passages with its columns, and say which they are; raises CorpusError, UsageError.

    A table without a second column of texts is none of them.
    """
    table = read_table(path, names=NAMES, given=given.names(), encoding=given.encoding)
    found = find_columns(table, given, targets=RELEVANCE, pairs=TOGETHER)
    if found.second is None:
        raise CorpusError(
            f"cannot tell which columns of {path} are the query and the passage (its columns are "
            f"{', '.join(table.columns)}); name them with --text-column and --pair-column"
        )
    note(
        f"{path}: {len(table):,} rows; query from {found.first}, passage from {found.second}, grade from {found.target}"
    )
    return table, found


def grades_of(path: Path, written: Sequence[str], *, column: str) -> np.ndarray:
    """Return grades of relevance, float32 [N], 0 for none; raises CorpusError where one is no number or below 0."""
    grades = numbers_of(path, written, column=column)
    below = np.flatnonzero(grades < 0)
    if len(below):
        raise CorpusError(
            f"{path} row {below[0] + 1:,} (without the header) has the relevance {written[below[0]]}; grades are 0 for "
            "a passage that does not answer its query, and larger ones for those that do"
        )
    return grades


def passages_of_questions(questions: Sequence[tuple[str, ...]]) -> Passages:
    """Return (query, passage, passage, ...) as passages to be ranked; raises UsageError where one has no passage."""
    if any(len(question) < 2 for question in questions):
        raise UsageError(
            "this model ranks passages for a query: give the query and then the passages, or lines `query TAB passage "
            "TAB passage ...` with --input"
        )
    counts = np.array([len(question) - 1 for question in questions], dtype=np.int64)
    queries = [question[0] for question in questions for _ in question[1:]]
    passages = [passage for question in questions for passage in question[1:]]
    return Passages(Path("questions"), queries, passages, np.zeros(len(passages), dtype=np.float32), counts)
