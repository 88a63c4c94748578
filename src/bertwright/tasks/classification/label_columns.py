"""Turns a table whose texts may have several labels into the labels of each row: from one column, or a column a label.

In one column labels stand in a list or between separators. With a column a label ("one-hot"), a cell is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bertwright.corpus.readers.cells import PADDING, as_label
from bertwright.corpus.readers.table import Table
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.classification.labels import index_of, is_list, items_in, labels_in, separator_of_labels
from bertwright.tasks.columns import (
    LABELS,
    Columns,
    ColumnsConfig,
    by_lower_name,
    find_columns,
    first_known,
    refuse_missing_columns,
)
from bertwright.tasks.unlabelled import NUMBERS_OF_ROWS

FLAGS = {"0": False, "0.0": False, "false": False, "no": False, "1": True, "1.0": True, "true": True, "yes": True}
"""What a cell says where each label has a column."""
NEARLY = frozenset(("", "-1", "-1.0", "nan", "none", "null"))
"""What stands in such a column where nobody knows."""


@dataclass(frozen=True)
class LabelColumns(Columns):
    """Where the texts and labels of a row stand.

    target     the column of labels (the first of them, with a column a label)
    separator  what stands between the labels of a cell
    flags      the columns of a label each; none where one column holds all labels
    placed     whether a cell is a list of 0 and 1, which say of each label by its number whether the text has it
    """

    separator: str = "|"
    flags: tuple[str, ...] = ()
    placed: bool = False

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of labels."""
        return self.flags or (self.target,)

    def labels_of(self, table: Table) -> list[list[str]]:
        """Return the labels of each row; raises CorpusError naming the first row that has none that can be read."""
        if self.flags:
            return self._flagged(table)
        cells = table.columns[self.target]
        return [self._cut(table.path, row, cell) for row, cell in enumerate(cells, start=1)]

    def _cut(self, path: Path, row: int, cell: str) -> list[str]:
        labels = labels_in(cell, self.separator)
        if labels is None:
            raise CorpusError(
                f"{path} row {row:,} (without the header) has labels that begin as a list but are none: "
                f"{cell[:60]!r}; fix it"
            )
        return self._placed(path, row, cell) if self.placed else labels

    def _placed(self, path: Path, row: int, cell: str) -> list[str]:
        flags = (items_in(cell) if is_list(cell) else labels_in(cell, self.separator)) or []
        if not FLAGS.keys() >= set(flags):
            raise CorpusError(
                f"{path} row {row:,} (without the header) should hold 0 or 1 for each label, not {cell[:60]!r}; fix it"
            )
        return [str(place) for place, flag in enumerate(flags) if FLAGS[flag]]

    def _flagged(self, table: Table) -> list[list[str]]:
        rows: list[list[str]] = [[] for _ in range(len(table))]
        for name in self.flags:
            if name not in table.columns:
                raise CorpusError(
                    f"{table.path} has no column {name!r}, which is a label of the training file; its columns are "
                    f"{', '.join(table.columns)}"
                )
            for row, cell in enumerate(table.columns[name]):
                flag = FLAGS.get(cell.strip(PADDING).lower())
                if flag is None:
                    raise CorpusError(
                        f"{table.path} row {row + 1:,} (without the header) has {cell[:60]!r} for the label {name}, "
                        "which is neither 0 nor 1; fill it in or take the row out"
                    )
                if flag:
                    rows[row].append(as_label(name))
        return rows


def find_label_columns(table: Table, given: ColumnsConfig, *, known: Sequence[str] = ()) -> LabelColumns:
    """Return the label columns of a table, given or found; `known` are the labels of a trained model.

    Raises UsageError where a column given is not there, and CorpusError where it is not clear what is a label.
    """
    flags = _flags_given(table, given) or _flags_found(table, given, known)
    if flags:
        found = find_columns(table, given.model_copy(update={"label": flags[0]}), targets=LABELS)
        flags = tuple(name for name in flags if name not in (found.first, found.second))
        separator = given.label_separator or "|"
        return LabelColumns(found.first, found.second, flags[0], found.encoding, separator, flags)
    found = find_columns(table, given, targets=LABELS)
    cells = table.columns[found.target]
    if given.label is None and found.target.strip().lower() not in LABELS and FLAGS.keys() >= set(cells):
        raise CorpusError(
            f"only the column {found.target} of {table.path} holds 0 and 1 alone (its columns are "
            f"{', '.join(table.columns)}); name the labels: --label-column A,B,C"
        )
    separator = given.label_separator or separator_of_labels(table.path, cells, known=known)
    count = places_in(cells)
    if count:
        note(f"{table.path}: {found.target} holds 0 or 1 for each of {count} labels, which are called 0 to {count - 1}")
    return LabelColumns(found.first, found.second, found.target, found.encoding, separator, placed=bool(count))


def places_in(cells: Sequence[str]) -> int:
    """Return of how many labels each cell says 0 or 1 in a list; 0 where cells are no such lists.

    They are as long as one another, None where nobody knows, and one says the same twice, as no list of names does.

    >>> places_in(["[0, 1, 0]", "[1, 1, 0]"]), places_in(["[0, 1]", "[0]"])
    (3, 0)
    """
    lists = [items_in(cell) or [] for cell in cells if is_list(cell)]
    if len(lists) < len(cells) or not lists or len({len(one) for one in lists}) > 1:
        return 0
    names = set().union(*lists) - {""}
    flags = (names <= {"0", "1"} or names <= {"false", "true"}) and any(len(set(one)) < len(one) for one in lists)
    return len(lists[0]) if flags else 0


def note_labels(table: Table, found: LabelColumns) -> None:
    """Say from which columns texts and labels are."""
    names = f"the columns {', '.join(found.flags)}, 0 or 1 each" if found.flags else found.target
    rest = [name for name in table.columns if name not in (*found.names, *found.flags)]
    more = f"; not read: {', '.join(rest)}" if rest and found.flags else ""
    note(f"{table.path}: {len(table):,} rows; text from {found.texts}, labels from {names}{more}")


def _flags_given(table: Table, given: ColumnsConfig) -> tuple[str, ...]:
    """Return the columns named with commas between; none where one column, or none, is named."""
    if given.label is None or given.label in table.columns or "," not in given.label:
        return ()
    names = tuple(dict.fromkeys(name.strip() for name in given.label.split(",")))
    refuse_missing_columns(table.path, table.columns, names)
    return names


def refuse_flags(table: Table, given: ColumnsConfig) -> None:
    """Raise CorpusError where each label has a column of 0 and 1: as one label a text, all but one would be dropped."""
    flags = () if given.label is not None else _flags_found(table, given, ())
    if flags:
        raise CorpusError(
            f"{table.path} has several columns of 0 and 1 ({', '.join(flags[:20])}): give --multi-label if each is a "
            "label, or name the one to learn with --label-column"
        )


def _values(table: Table, given: ColumnsConfig) -> dict[str, set[str]]:
    """Return the different cells of each column that may be a label's."""
    return {
        name: {cell.strip(PADDING).lower() for cell in cells}
        for name, cells in table.columns.items()
        if name not in (given.text, given.pair) and name.strip().lower() not in NUMBERS_OF_ROWS
    }


def _flags_found(table: Table, given: ColumnsConfig, known: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that hold 0 and 1 alone, if there are several and no column of labels is given or named so."""
    by_name = {as_label(name): name for name in table.columns}
    if known and given.label is None and all(as_label(label) in by_name for label in known):
        return tuple(by_name[as_label(label)] for label in known)
    values = _values(table, given)
    flags = tuple(name for name, cells in values.items() if cells <= FLAGS.keys())
    if given.label is not None and (given.label not in flags or len(flags) < 2):
        return ()
    if given.label is not None:
        raise UsageError(
            f"the column {given.label} of {table.path} holds 0 and 1 alone, one label of several columns; leave "
            f"--label-column out, or name all: --label-column {','.join(flags)}"
        )
    named = first_known(by_lower_name(table.columns), LABELS)
    if len(flags) < 2 or (named is not None and named not in flags):
        return ()
    doubtful = next((name for name, cells in values.items() if name not in flags and _is_nearly(cells)), None)
    if doubtful is not None:
        raise CorpusError(
            f"the column {doubtful} of {table.path} holds other cells beside 0 and 1 (empty ones or -1), so that it is "
            "not clear whether it is a label; fill them in, or name the labels: --label-column A,B,C"
        )
    return flags


def _is_nearly(values: set[str]) -> bool:
    """Return whether cells are 0 and 1, but for some that say nothing."""
    left = values - NEARLY
    return left < FLAGS.keys() and len({FLAGS[value] for value in left}) == 2


def one_hot(labels_of_rows: Sequence[Sequence[str]], labels: Sequence[str], *, path: Path) -> np.ndarray:
    """Return 1 for every label a row has and 0 for the others, float32 [N, K]; raises CorpusError for others yet."""
    places: list[tuple[int, int]] = []
    index = index_of(labels)
    for row, names in enumerate(labels_of_rows):
        for label in names:
            if label not in index:
                raise CorpusError(
                    f"{path} row {row + 1:,} (without the header) has the label {label[:60]!r}, which no training "
                    f"example has; known: {', '.join(list(index)[:20])}"
                )
            places.append((row, index[label]))
    targets = np.zeros((len(labels_of_rows), len(labels)), dtype=np.float32)
    rows, columns = np.array(places, dtype=np.int64).reshape(-1, 2).T
    targets[rows, columns] = 1
    return targets
