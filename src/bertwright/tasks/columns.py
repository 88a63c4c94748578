"""Finds which columns of a table hold the text, the second text of a pair, and the label or score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from bertwright.config import Section
from bertwright.corpus.readers.cells import PADDING
from bertwright.corpus.readers.header import is_number
from bertwright.corpus.readers.table import Table
from bertwright.errors import CorpusError, UsageError

PAIRS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("sentence_a", "sentence_b"),
    ("first", "second"),
)
"""Names of the two texts of a pair, in the order they are looked for: GLUE's, and what else is common."""
SINGLES = ("sentence", "text", "question", "review", "content", "document", "body", "tweet", "comment", "utterance")
"""Names of a text that stands alone, looked for after PAIRS."""
LABELS = ("label", "labels", "class", "category", "sentiment", "target", "gold_label", "intent", "polarity", "tag")
SCORES = ("score", "similarity", "relatedness_score", "rating", "label", "target", "value")
KNOWN = frozenset([name for pair in PAIRS for name in pair] + [*SINGLES, *LABELS, *SCORES])
TOGETHER = (
    ("anchor", "positive"),
    ("query", "positive"),
    ("query", "passage"),
    ("query", "document"),
    ("question", "answer"),
    ("title", "text"),
    ("source", "target"),
    *PAIRS,
)
"""Names of two texts that belong together, in the order they are looked for."""
QUESTIONS = (("question", "context"), ("question", "passage"), ("query", "context"))
"""Names of a question and the context its answer stands in."""
UNLIKE = ("negative", "hard_negative")
"""Names of a third text, unlike the first."""
SENTENCES = KNOWN | {name for pair in TOGETHER for name in pair} | set(UNLIKE)
"""All of these names: what a file of texts alone may have."""


class ColumnsConfig(Section):
    """Which columns to read, where their names do not say it; a file without a header has columns 1, 2, 3 ..."""

    text: str | None = None
    """Column of the text, or of the first text of a pair."""
    pair: str | None = None
    """Column of the second text of a pair; none where `text` is given alone."""
    label: str | None = None
    """Column of the label or score; where a text may have several labels, also a column each, with commas between."""
    label_separator: str | None = Field(default=None, min_length=1)
    """What stands between the labels of a cell, where a text may have several; found in the file where not given."""
    label_names: tuple[str, ...] | None = Field(default=None, min_length=1)
    """What labels that are numbers stand for, from 0 on; those that the file says where not given."""

    encoding: str | None = None
    """How the characters of the files are written, such as gb18030; detected where it is not given and not UTF-8."""

    def names(self) -> set[str]:
        """Return the names that are given."""
        return {name for name in (self.text, self.pair, self.label) if name is not None}


@dataclass(frozen=True)
class Columns:
    """The columns of a task in a table: text, second text or None, and label or score; and the table's encoding."""

    first: str
    second: str | None
    target: str
    encoding: str | None = None

    @property
    def texts(self) -> str:
        """The columns of text, as people read them."""
        return self.first if self.second is None else f"{self.first} and {self.second}"

    @property
    def names(self) -> tuple[str, ...]:
        """All of these columns, the target last."""
        return tuple(name for name in (self.first, self.second, self.target) if name is not None)

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns of labels; where each label has a column, all of those."""
        return (self.target,)


def by_lower_name(names: Iterable[str]) -> dict[str, str]:
    """Return the names of columns by their lower case; of equal ones the first counts."""
    return {name.strip().lower(): name for name in reversed(list(names))}


def first_known(lower: dict[str, str], usual: Iterable[str]) -> str | None:
    """Return the column of the first of some usual names that is there, among those of `by_lower_name`."""
    return next((lower[name] for name in usual if name in lower), None)


def refuse_missing_columns(path: Path, columns: Iterable[str], given: Iterable[str | None]) -> None:
    """Raise UsageError where a table of these columns lacks one that is given."""
    there = list(columns)
    missing = sorted({name for name in given if name is not None} - set(there))
    if missing:
        raise UsageError(
            f"{path} has no column {missing[0]!r}; its columns are {', '.join(there)}: name one of these with "
            "--text-column, --pair-column or --label-column"
        )


def refuse_empty(path: Path, name: str, cells: Sequence[str]) -> None:
    """Raise CorpusError where a cell of a column is empty."""
    empty = [row for row, cell in enumerate(cells, start=1) if not cell.strip(PADDING)]
    if empty:
        raise CorpusError(
            f"{path} has {len(empty):,} rows where {name} is empty, the first of them row {empty[0]:,} (without the "
            "header); fill them or take them out"
        )


def find_columns(
    table: Table, given: ColumnsConfig, *, targets: tuple[str, ...], pairs: tuple[tuple[str, str], ...] = PAIRS
) -> Columns:
    """Return the columns given, or found by name, or by what they hold.

    `targets` are names of the label, `pairs` those of two texts.

    Raises UsageError where a column given is not there or a text is to be two things, and CorpusError where nothing
    says which is which.
    """
    refuse_missing_columns(table.path, table.columns, given.names())
    lower = by_lower_name(table.columns)
    target = given.label or first_known(lower, targets)
    texts = (given.text, given.pair) if given.text else texts_by_name(lower, target, pairs)
    if given.pair:
        texts = (texts[0], given.pair)
    if texts[0] is None:
        texts = (_longest(table, taken={target}), given.pair)
    if target is None:
        target = _fewest_values(table, taken=set(texts))
    if target is None or texts[0] is None:
        raise CorpusError(
            f"cannot tell which column of {table.path} is the text and which the label (its columns are "
            f"{', '.join(table.columns)}); name them with --text-column and --label-column"
        )
    found = [name for name in (*texts, target) if name]
    if len(set(found)) < len(found):
        raise UsageError(f"text, pair and label of {table.path} must be different columns, not {', '.join(found)}")
    return Columns(texts[0], texts[1], target, given.encoding)


def find_texts(
    table: Table, given: ColumnsConfig, *, pairs: bool | None, names: tuple[tuple[str, str], ...] = PAIRS
) -> tuple[str, ...]:
    """Return the column of the text, or the two of a pair, of a table to predict, its labels passed over.

    `table` may be its first rows. `pairs` says which of both is wanted, None that either will do; `names` are those of
    the two of a pair. Raises UsageError where a column given is not there or not wanted, and CorpusError where nothing
    says which are meant.
    """
    refuse_missing_columns(table.path, table.columns, (given.text, given.pair))
    if given.pair and pairs is False:
        raise UsageError("this model takes single texts; leave --pair-column out")
    if given.pair and given.pair == given.text:
        raise UsageError(f"the two texts of a pair must be different columns of {table.path}, not {given.pair} twice")
    lower = by_lower_name(table.columns)
    if given.text and (given.pair or not pairs):
        return (given.text, given.pair) if given.pair else (given.text,)
    named = next(((lower[one], lower[two]) for one, two in names if one in lower and two in lower), None)
    if named and not given.names():
        if pairs is False:
            raise UsageError(
                f"this model takes single texts and {table.path} holds pairs ({', '.join(named)}); name the one column "
                "of texts with --text-column"
            )
        return named
    marks = {name for name in table.columns if name.strip().lower() in (*LABELS, *SCORES)}
    texts = [name for name in table.columns if name not in marks] or list(table.columns)
    usual = next((lower[name] for name in SINGLES if lower.get(name) in texts), None)
    if pairs or given.pair or (pairs is None and usual is None and len(_with_words(table, marks)) == 2):
        return _pair_of(table, given, marks)
    return (usual or str(_longest(table, taken={name for name in table.columns if name not in texts})),)


def _pair_of(table: Table, given: ColumnsConfig, marks: set[str]) -> tuple[str, str]:
    """Return the two columns of a pair where no names say them: what is given, and the only others with words."""
    left = [name for name in _with_words(table, marks) if name not in given.names()]
    if len(left) != 2 - len(given.names()):
        raise CorpusError(
            f"cannot tell which two columns of {table.path} are the texts of a pair (its columns are "
            f"{', '.join(table.columns)}); name them with --text-column and --pair-column"
        )
    first = given.text or left.pop(0)
    return first, given.pair or left.pop(0)


def _with_words(table: Table, marks: set[str]) -> list[str]:
    """Return the columns that are neither labels nor all of numbers."""
    unmarked = ((name, cells) for name, cells in table.columns.items() if name not in marks)
    return [name for name, cells in unmarked if not cells or not all(map(is_number, cells))]


def texts_by_name(
    lower: dict[str, str], target: str | None, pairs: tuple[tuple[str, str], ...] = PAIRS
) -> tuple[str | None, str | None]:
    """Return the columns of a pair, or of a text and None, among lower-case names; None twice where none is known."""
    for first, second in pairs:
        if first in lower and second in lower and target not in (lower[first], lower[second]):
            return lower[first], lower[second]
    return next((lower[name] for name in SINGLES if name in lower and lower[name] != target), None), None


def _longest(table: Table, *, taken: set[str | None]) -> str | None:
    """Return the column of the longest cells."""
    free = {name: cells for name, cells in table.columns.items() if name not in taken}
    lengths = {name: sum(map(len, cells)) for name, cells in free.items() if table.kinds.get(name) != "object"}
    return max(lengths, key=lambda name: lengths[name]) if lengths else None


def _fewest_values(table: Table, *, taken: set[str | None]) -> str | None:
    """Return the column of the fewest different cells, two or more, and no more than one in two rows."""
    free = {name: cells for name, cells in table.columns.items() if name not in taken}
    values = {name: len(set(cells)) for name, cells in free.items() if table.kinds.get(name) != "object"}
    labels = {name: count for name, count in values.items() if 2 <= count <= max(2, len(table) // 2)}
    return min(labels, key=lambda name: labels[name]) if labels else None
