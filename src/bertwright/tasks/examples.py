"""Turns the examples of a training file into those of train and dev, and says which rows of one file stand in another.

What an example is differs from task to task; all of them have here what their rows say (`keys`), which rows belong
together (`groups`), which class each is of (`classes`), and a choice of them (`take`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Generic, Self, TypeVar

import numpy as np

from bertwright.data.labelled.dev_split import dev_rows, fold_numbers, key_hashes
from bertwright.errors import CorpusError
from bertwright.log import note

BETWEEN = "\x1f"
"""Between the texts of a row, as one key."""
MOST_CLASSES = 10
"""Counts of more classes are not printed."""


@dataclass(frozen=True)
class Examples(ABC):
    """N labelled examples of any task, from a file."""

    path: Path

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @abstractmethod
    def keys(self) -> list[str]:
        """Return what each row says, all its texts: rows of equal keys are the same question."""

    def groups(self) -> list[str]:
        """Return what rows that stay on one side of a split have in common; the keys, usually."""
        return self.keys()

    def classes(self) -> np.ndarray | None:
        """Return the class of each row, int64 [N], or its labels [N, K]; None where rows are all of a kind."""
        return None

    @abstractmethod
    def take(self, places: np.ndarray) -> Self:
        """Return the examples at `places`, in that order."""


E = TypeVar("E", bound=Examples)
E_co = TypeVar("E_co", bound=Examples, covariant=True)
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True)
class EncodedExamples(Generic[E_co, R_co]):
    """Examples, and the rows of tokens they become."""

    examples: E_co
    rows: R_co


def split_dev(examples: E, fraction: float | None, *, labels: Sequence[str] = ()) -> dict[str, E]:
    """Return the examples to train on as "train" and, with a `fraction`, those held out as "dev", and note how many.

    `labels` are the names of the classes. Raises CorpusError where the examples cannot be divided.
    """
    if fraction is None:
        return {"train": examples}
    try:
        held = dev_rows(examples.groups(), examples.classes(), fraction=fraction)
    except ValueError as error:
        raise CorpusError(
            f"{examples.path} cannot be divided into train and dev: no text of its {len(examples):,} examples can be "
            "taken out without taking all examples, or all of a class; give more of them, or a file for --dev"
        ) from error
    train, dev = examples.take(np.flatnonzero(~held)), examples.take(np.flatnonzero(held))
    shown = "" if len(labels) > MOST_CLASSES else _class_counts(dev, labels)
    note(
        f"no --dev: {len(dev):,} of the {len(examples):,} examples of {examples.path} are held out for it by a hash of "
        f"their text{shown}; {len(train):,} are trained on (--dev-fraction for another share than {fraction:g})"
    )
    return {"train": train, "dev": dev}


def fold_places(examples: Examples, folds: int) -> list[np.ndarray]:
    """Return the rows of each of some folds, int64, for cross-validation: stratified, rows that belong together in one.

    The same rows always give the same folds, in whatever order. Raises CorpusError where there are too few examples.
    """
    try:
        numbers = fold_numbers(examples.groups(), examples.classes(), folds=folds)
    except ValueError as error:
        raise CorpusError(
            f"{examples.path} cannot be divided into {folds} folds: there are too few different texts among its "
            f"{len(examples):,} examples; give fewer folds, or more examples"
        ) from error
    return [np.flatnonzero(numbers == fold) for fold in range(folds)]


def _class_counts(dev: Examples, labels: Sequence[str]) -> str:
    classes = dev.classes()
    if classes is None or not labels:
        return ""
    counts = np.bincount(classes, minlength=len(labels)) if classes.ndim == 1 else (classes != 0).sum(0)
    return f" ({', '.join(f'{label} {count:,}' for label, count in zip(labels, counts.tolist(), strict=True))})"


def overlaps_of(splits: Mapping[str, Examples]) -> dict[str, dict[str, int]]:
    """Return how many rows of each split stand in an earlier one too, by split and earlier split; none that is 0.

    Rows stand in another split where all their texts do, but for blanks.
    """
    hashes = {name: key_hashes(examples.keys()) for name, examples in splits.items()}
    found: dict[str, dict[str, int]] = {}
    for earlier, later in combinations(hashes, 2):
        count = int(np.isin(hashes[later], hashes[earlier]).sum())
        if count:
            found.setdefault(later, {})[earlier] = count
    return found


def overlap_sentences(overlaps: Mapping[str, Mapping[str, int]], counts: Mapping[str, int]) -> list[str]:
    """Return a warning for each overlap that `overlaps_of` found; `counts` are the rows of each split.

    >>> overlap_sentences({"dev": {"train": 5}}, {"train": 100, "dev": 10})[0].split(",")[0]
    '5 of 10 examples of dev (50.0%) stand in train too'
    """
    return [
        f"{count:,} of {counts[split]:,} examples of {split} ({count / counts[split]:.1%}) stand in {other} too"
        f"{', by which the checkpoint is chosen' if other == 'dev' else ''}, so the figures on {split} are too good; "
        "take them out of either"
        for split, others in overlaps.items()
        for other, count in others.items()
    ]
