"""Tells which columns of a labelled table hold the text, the second text of a pair, and the label or score."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field

from bertwright.config import Section
from bertwright.errors import CorpusError, UsageError
from bertwright.tasks.tables import Table

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
    """Column of the label or score."""
    label_separator: str = Field(default="|", min_length=1)
    """What stands between the labels of a cell, where a text may have several."""

    def names(self) -> set[str]:
        """Return the names told."""
        return {name for name in (self.text, self.pair, self.label) if name is not None}


@dataclass(frozen=True)
class Columns:
    """The columns of a task in a table: text, second text or None, and label or score."""

    first: str
    second: str | None
    target: str


def find_columns(table: Table, told: ColumnsConfig, *, targets: tuple[str, ...]) -> Columns:
    """Return the columns told, or found by name, or told from what they hold; `targets` are names of the label.

    Raises UsageError where a column told is not there or a text is told to be two things, and CorpusError where nothing
    says which is which.
    """
    missing = sorted(told.names() - set(table.columns))
    if missing:
        raise UsageError(f"{table.path} has no column {missing[0]!r}; its columns are {', '.join(table.columns)}")
    lower = {name.strip().lower(): name for name in reversed(table.columns)}
    target = told.label or next((lower[name] for name in targets if name in lower), None)
    texts = (told.text, told.pair) if told.text else _texts_by_name(lower, target)
    if told.pair:
        texts = (texts[0], told.pair)
    if texts[0] is None:
        texts = (_longest(table, taken={target}), told.pair)
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
    return Columns(texts[0], texts[1], target)


def _texts_by_name(lower: dict[str, str], target: str | None) -> tuple[str | None, str | None]:
    for first, second in PAIRS:
        if first in lower and second in lower and target not in (lower[first], lower[second]):
            return lower[first], lower[second]
    return next((lower[name] for name in SINGLES if name in lower and lower[name] != target), None), None


def _longest(table: Table, *, taken: set[str | None]) -> str | None:
    """Return the column of the longest cells."""
    lengths = {name: sum(map(len, cells)) for name, cells in table.columns.items() if name not in taken}
    return max(lengths, key=lambda name: lengths[name]) if lengths else None


def _fewest_values(table: Table, *, taken: set[str | None]) -> str | None:
    """Return the column of the fewest different cells, two or more, and no more than one in two rows."""
    values = {name: len(set(cells)) for name, cells in table.columns.items() if name not in taken}
    labels = {name: count for name, count in values.items() if 2 <= count <= max(2, len(table) // 2)}
    return min(labels, key=lambda name: labels[name]) if labels else None
