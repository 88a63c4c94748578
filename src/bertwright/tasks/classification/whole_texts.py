"""What the tasks about whole texts share: their columns, how texts are read and encoded, whether they are pairs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.corpus.readers.table import Table, read_table
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import UsageError
from bertwright.tasks.base import Task
from bertwright.tasks.classification.labels import index_of
from bertwright.tasks.classification.reader import Texts, texts_of
from bertwright.tasks.columns import KNOWN, LABELS, Columns, ColumnsConfig
from bertwright.tasks.examples import EncodedExamples
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile, unlabelled_texts

if TYPE_CHECKING:
    from bertwright.model.encoder import HeadType

PAIRS = "pairs"
"""Under this name a folder keeps whether its model has learned from pairs of texts."""


@dataclass(frozen=True, eq=False)
class WholeTexts(Task[Texts]):
    """A task whose examples are single texts, or pairs of texts.

    labels   names of the head's outputs, in their order
    columns  where a table has texts and targets; None for a trained model that has not been given a file
    pairs    whether the training examples were pairs; None where a folder made elsewhere does not say
    """

    head_type: ClassVar[HeadType] = "row"
    number_type: ClassVar[type[np.generic]]
    """What targets are."""
    may_lack_target: ClassVar[bool] = False
    """Whether a row may be without a label."""
    target_names: ClassVar[tuple[str, ...]] = LABELS
    """Usual names of the column of targets."""
    labels: tuple[str, ...]
    columns: Columns | None = None
    pairs: bool | None = None

    @abstractmethod
    def open(self, path: Path, columns: ColumnsConfig) -> tuple[Table, Columns]:
        """Return a table that the trained model is to be evaluated on, and its columns, given or found."""

    @abstractmethod
    def targets_of(self, table: Table, written: Sequence[str]) -> np.ndarray:
        """Return the targets [N] of a table, whose column of targets holds `written`; raises CorpusError."""

    @cached_property
    def known_cells(self) -> Collection[str]:
        """Cells that are labels, whatever they look like."""
        return index_of(self.labels)

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model."""
        return cls(tuple(labels), pairs=known_pairs(extra_config or {}))

    @property
    def extra_config(self) -> dict[str, Any]:
        """Whether texts stand in pairs, where that is known."""
        return {} if self.pairs is None else {PAIRS: self.pairs}

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns of a table; raises UsageError where it knows pairs and they are a text."""
        found = self.open(path, columns)[1]
        if self.pairs is not None and self.pairs != (found.second is not None):
            knows, got = ("pairs of texts", "single texts") if self.pairs else ("single texts", "pairs")
            fix = "--text-column and --pair-column" if self.pairs else "the one column of texts with --text-column"
            raise UsageError(f"this model has learned from {knows} and {path} was read as {got}; name {fix}")
        return replace(self, columns=found)

    def read(self, path: Path) -> Texts:
        """Return the examples of another table; raises CorpusError where one has a label the training file lacks."""
        assert self.columns is not None
        table = read_table(path, names=KNOWN, given=self.columns.names, encoding=self.columns.encoding)
        first, second, written = texts_of(table, self.columns, may_lack_target=self.may_lack_target)
        return Texts(path, first, second, self.targets_of(table, written))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a table without labels as what is to be predicted; None where it has some."""
        assert self.columns is not None
        return unlabelled_texts(path, self.columns, known=self.known_cells)

    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> Texts:
        """Return texts, or pairs, whose targets nobody knows; raises UsageError where the model knows others alone."""
        given = bool(questions) and len(questions[0]) > 1
        if questions and self.pairs is not None and given != self.pairs:
            knows, got = ("pairs of texts", "single texts") if self.pairs else ("single texts", "pairs")
            fix = "give two texts, or lines `text TAB text` with --input" if self.pairs else "give each text alone"
            raise UsageError(f"this model has learned from {knows} and was given {got}; {fix}")
        second = [question[1] for question in questions] if given else None
        targets = np.zeros(len(questions), self.number_type)
        return Texts(Path("questions"), [question[0] for question in questions], second, targets)

    def encode(self, examples: Texts, encoder: TextEncoder) -> EncodedExamples[Texts, LabelledRows]:
        """Return a row for each text or pair."""
        return EncodedExamples(examples, encoder.rows(examples.first, examples.second, examples.targets))


def known_pairs(extra_config: Mapping[str, Any]) -> bool | None:
    """Return whether a model has learned from pairs, where its folder says so."""
    return bool(extra_config[PAIRS]) if PAIRS in extra_config else None
