"""Turns a labelled table into texts, or pairs of texts, each with its target; for tasks about whole rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError
from bertwright.log import note
from bertwright.tasks.columns import KNOWN, Columns, ColumnsConfig, find_columns, refuse_empty
from bertwright.tasks.examples import BETWEEN, Examples


@dataclass(frozen=True)
class Texts(Examples):
    """N texts or pairs of a file, and their targets: int64 classes [N], scores [N] or labels [N, K] as float32."""

    first: list[str]
    second: list[str] | None
    targets: np.ndarray

    def __len__(self) -> int:
        """Return N."""
        return len(self.first)

    def keys(self) -> list[str]:
        """Return what each row says: its text, or both."""
        if self.second is None:
            return self.first
        return [f"{one}{BETWEEN}{other}" for one, other in zip(self.first, self.second, strict=True)]

    def classes(self) -> np.ndarray | None:
        """Return the class of each row [N], or its labels [N, K]; None where it is a score."""
        return None if self.targets.ndim == 1 and self.targets.dtype.kind == "f" else self.targets

    def take(self, places: np.ndarray) -> Self:
        """Return the rows at `places`, in that order."""
        chosen = places.tolist()
        second = None if self.second is None else [self.second[place] for place in chosen]
        return replace(self, first=[self.first[place] for place in chosen], second=second, targets=self.targets[places])

    def fields(self, place: int) -> dict[str, str]:
        """Return a text or pair as `predict` writes it down."""
        if self.second is None:
            return {"text": self.first[place]}
        return {"first": self.first[place], "second": self.second[place]}

    def shown(self, place: int) -> str:
        """Return a text, or a pair with a bar between, as people read it."""
        return self.first[place] if self.second is None else f"{self.first[place]} | {self.second[place]}"


def open_texts(path: Path, given: ColumnsConfig, *, targets: tuple[str, ...]) -> tuple[Table, Columns]:
    """Return a training table and its columns, and say which they are; `targets` are names of the label column."""
    table = read_table(path, names=KNOWN, given=given.names(), encoding=given.encoding)
    columns = find_columns(table, given, targets=targets)
    kind = "label" if "label" in targets[0] else "score"
    note(f"{path}: {len(table):,} rows; text from {columns.texts}, {kind} from {columns.target}")
    return table, columns


def texts_of(
    table: Table, columns: Columns, *, may_lack_target: bool = False
) -> tuple[list[str], list[str] | None, list[str]]:
    """Return first texts, second texts and targets as written; raises CorpusError where one is missing or empty.

    With `may_lack_target` a target may be empty: a text that has none of the labels.
    """
    for name in columns.names:
        if name not in table.columns:
            raise CorpusError(
                f"{table.path} has no column {name!r}, which the training file has; its columns are "
                f"{', '.join(table.columns)}"
            )
        if not (may_lack_target and name == columns.target):
            refuse_empty(table.path, name, table.columns[name])
    second = None if columns.second is None else table.texts(columns.second)
    return table.texts(columns.first), second, table.labels(columns.target)


def numbers_of(path: Path, written: Sequence[str], *, column: str) -> np.ndarray:
    """Return a column of scores as numbers, float32 [N]; raises CorpusError naming the first that is none."""
    scores = np.empty(len(written), dtype=np.float32)
    for row, cell in enumerate(written):
        try:
            scores[row] = float(cell)
        except ValueError:
            scores[row] = np.nan
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise CorpusError(
            f"{path} row {wrong[0] + 1:,} (without the header) has {written[wrong[0]][:60]!r} for {column}, which is "
            "no number; are text and score columns swapped (--text-column, --label-column)?"
        )
    return scores


def looks_swapped(texts: list[str], targets: list[str]) -> bool:
    """Say whether the targets vary and run on as texts do, and the texts as labels do."""
    return len(set(targets)) > len(set(texts)) and sum(map(len, targets)) > sum(map(len, texts))
