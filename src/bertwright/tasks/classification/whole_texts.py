"""What the tasks about whole texts share: how texts are asked about and encoded, and whether they stand in pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import UsageError
from bertwright.tasks.base import Task
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.columns import Columns
from bertwright.tasks.text_encoder import TextEncoder

if TYPE_CHECKING:
    from bertwright.model.encoder import HeadType

PAIRS = "pairs"
"""Under this name a folder keeps whether its model has learned from pairs of texts."""


class WholeTexts(Task[Texts]):
    """A task whose examples are single texts, or pairs of texts."""

    part: ClassVar[HeadType] = "row"
    numbers: ClassVar[type[np.generic]]
    """What targets are."""
    pairs: bool | None = None
    """Whether the training examples were pairs; None where a folder made elsewhere does not say."""

    @property
    def own(self) -> dict[str, Any]:
        """Whether texts stand in pairs, where that is known."""
        return {} if self.pairs is None else {PAIRS: self.pairs}

    def with_saved_settings(self, own: Mapping[str, Any]) -> Self:
        """Return the task as a folder says that it was trained."""
        if PAIRS not in own:
            return self
        task = copy(self)
        task.pairs = bool(own[PAIRS])
        return task

    def ask(self, questions: Sequence[tuple[str, ...]]) -> Texts:
        """Return texts, or pairs, whose targets nobody knows; raises UsageError where the model knows others alone."""
        given = bool(questions) and len(questions[0]) > 1
        if questions and self.pairs is not None and given != self.pairs:
            knows, got = ("pairs of texts", "single texts") if self.pairs else ("single texts", "pairs")
            fix = "give two texts, or lines `text TAB text` with --input" if self.pairs else "give each text alone"
            raise UsageError(f"this model has learned from {knows} and was asked about {got}; {fix}")
        return asked_texts(questions, self.numbers)

    def fitting(self, path: Path, columns: Columns) -> Columns:
        """Return the columns found in a table; raises UsageError where they are a text and the model knows pairs."""
        if self.pairs is not None and self.pairs != (columns.second is not None):
            knows, got = ("pairs of texts", "single texts") if self.pairs else ("single texts", "pairs")
            fix = "--text-column and --pair-column" if self.pairs else "the one column of texts with --text-column"
            raise UsageError(f"this model has learned from {knows} and {path} was read as {got}; name {fix}")
        return columns

    def encode(self, examples: Texts, encoder: TextEncoder) -> LabelledRows:
        """Return a row for each text or pair."""
        return encoder.rows(examples.first, examples.second, examples.targets)


def asked_texts(questions: Sequence[tuple[str, ...]], numbers: type[np.generic]) -> Texts:
    """Return texts, or pairs, whose targets nobody knows: zeros. All are single, or all are pairs."""
    second = [question[1] for question in questions] if questions and len(questions[0]) > 1 else None
    return Texts(Path("questions"), [question[0] for question in questions], second, np.zeros(len(questions), numbers))
