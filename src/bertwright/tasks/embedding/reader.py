"""Turns a file into texts, pairs of texts that belong together, or pairs with a score; the file says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pyarrow as pa

from bertwright.corpus.readers.formats import format_of
from bertwright.corpus.readers.lines import read_lines
from bertwright.corpus.readers.table import Table, read_table
from bertwright.errors import CorpusError, UsageError
from bertwright.log import note
from bertwright.tasks.classification.reader import numbers_of
from bertwright.tasks.columns import (
    SCORES,
    SENTENCES,
    SINGLES,
    TOGETHER,
    UNLIKE,
    ColumnsConfig,
    by_lower_name,
    first_known,
    refuse_empty,
    refuse_missing_columns,
)
from bertwright.tasks.examples import BETWEEN, Examples

Kind = Literal["pairs", "texts", "scores"]
"""What a file holds: texts that belong together, texts alone, or pairs with a score."""


@dataclass(frozen=True)
class SentenceColumns:
    """Where a table has its texts (one, two, or three with one that is unlike the first) and its score."""

    texts: tuple[str, ...]
    score: str | None

    @property
    def kind(self) -> Kind:
        """What a table of these columns holds."""
        return "texts" if len(self.texts) == 1 else "pairs" if self.score is None else "scores"


@dataclass(frozen=True)
class Sentences(Examples):
    """N examples of K texts each, out of U different texts.

    texts    the U texts
    members  [N, K] int64  which of them each example has
    scores   [N] float32   as written; None where there are none
    """

    texts: list[str]
    members: np.ndarray
    scores: np.ndarray | None

    def __len__(self) -> int:
        """Return N."""
        return len(self.members)

    @property
    def kind(self) -> Kind:
        """What they are."""
        return "scores" if self.scores is not None else "pairs" if self.members.shape[1] > 1 else "texts"

    def keys(self) -> list[str]:
        """Return the texts of each example that belong together."""
        return [BETWEEN.join(self.texts[text] for text in row) for row in self.members[:, :2].tolist()]

    def groups(self) -> list[str]:
        """Return the first text of each example: pairs of one query stay on one side of a split."""
        return [self.texts[text] for text in self.members[:, 0].tolist()]

    def take(self, places: np.ndarray) -> Self:
        """Return the examples at `places`, in that order, and their texts alone."""
        used, members = np.unique(self.members[places], return_inverse=True)
        texts = [self.texts[text] for text in used.tolist()]
        scores = None if self.scores is None else self.scores[places]
        return replace(self, texts=texts, members=members.reshape(len(places), -1).astype(np.int64), scores=scores)

    def shown(self, place: int) -> str:
        """Return an example as people read it, a bar between its texts."""
        return " | ".join(self.texts[text] for text in self.members[place].tolist())


def scaled(scores: np.ndarray) -> np.ndarray:
    """Return scores [N] laid out from 0 (the lowest) to 1 (the highest), float32."""
    fractions: np.ndarray = ((scores - scores.min()) / np.ptp(scores)).astype(np.float32)
    return fractions


def read_sentences(path: Path, given: ColumnsConfig, *, negative: str | None = None, kind: Kind | None) -> Sentences:
    """Return the examples of a file and say what they are; raises CorpusError or UsageError with the reason.

    `kind` None finds it by the columns. A .txt file holds a text a line; empty lines are passed over.
    """
    if format_of(path) == "txt":
        if kind not in (None, "texts"):
            raise UsageError(f"{path} holds a text a line, not {kind}; give a .tsv, .csv, .jsonl or .parquet file")
        note(f"{path}: texts, one a line")
        return gathered(path, [read_lines(path, given.encoding)], None)
    named = given.names() | ({negative} if negative else set())
    table = read_table(path, names=SENTENCES, given=named, one_column=True, encoding=given.encoding)
    refuse_missing_columns(path, table.columns, named)
    columns = find_sentences(table, given, negative=negative, kind=kind)
    for name in columns.texts:
        refuse_empty(path, name, table.columns[name])
    score = columns.score
    scores = None if score is None else numbers_of(path, table.columns[score], column=score)
    if scores is not None and np.ptp(scores) == 0:
        raise CorpusError(f"every row of {path} has the score {scores[0]:g}; give examples of different scores")
    found = gathered(path, [table.texts(name) for name in columns.texts], scores)
    note(f"{path}: {len(found):,} {_described(found, columns)}")
    return found


def gathered(path: Path, columns: Sequence[list[str]], scores: np.ndarray | None) -> Sentences:
    """Return examples from columns of texts, equal texts numbered alike."""
    numbered = pa.array(list(chain.from_iterable(columns)), pa.large_string()).dictionary_encode()
    members = numbered.indices.to_numpy().astype(np.int64).reshape(len(columns), -1).T
    return Sentences(path, numbered.dictionary.to_pylist(), np.ascontiguousarray(members), scores)


def _described(found: Sentences, columns: SentenceColumns) -> str:
    names = " and ".join(columns.texts[:2])
    if found.scores is not None:
        low, high = found.scores.min(), found.scores.max()
        return f"scored pairs from {names}; {columns.score} from {low:g} to {high:g} becomes 0 to 1"
    unlike = f", and {columns.texts[2]} as what is unlike {columns.texts[0]}" if len(columns.texts) == 3 else ""
    return f"{'texts' if found.kind == 'texts' else 'pairs'} from {names}{unlike}"


def find_sentences(table: Table, given: ColumnsConfig, *, negative: str | None, kind: Kind | None) -> SentenceColumns:
    """Return the columns given, or found by name, or the only ones; those that `kind` has no use for are left out.

    Raises CorpusError where nothing says what is what, or where a label that is no number stands beside a pair: it may
    say that they do not belong together.
    """
    texts, score = _texts(table, given, negative), _score(table, given)
    if kind == "texts" or len(texts) == 1:
        texts, score = texts[:1], None
    elif kind == "pairs":
        score = None
    elif score is not None and not given.label and not _numeric(table, score):
        raise CorpusError(
            f"{table.path} has pairs with a {score} that is no number; if all of them belong together say "
            "--embed.objective pairs, else keep those that do, or name a column of scores with --label-column"
        )
    found = SentenceColumns(texts if score is None else texts[:2], score)
    if kind not in (None, found.kind):
        raise CorpusError(
            f"{table.path} holds {found.kind}, not {kind} (its columns are {', '.join(table.columns)}); name them with "
            "--text-column, --pair-column and --label-column"
        )
    return found


def _texts(table: Table, given: ColumnsConfig, negative: str | None) -> tuple[str, ...]:
    """Return the columns of texts: given, by name, or every column that holds no numbers, up to three."""
    free = [name for name in table.columns if name not in (given.pair, negative, given.label)]
    lower = by_lower_name(free)
    pair = next(((lower[a], lower[b]) for a, b in TOGETHER if a in lower and b in lower), (None, None))
    singles = SINGLES if given.pair is None else (*(name for name, _ in TOGETHER), *SINGLES)
    first = given.text or pair[0] or first_known(lower, singles)
    second = given.pair or (None if given.text else pair[1])
    unlike = negative or first_known(lower, UNLIKE)
    if given.text and negative and not second:
        raise UsageError(f"{negative!r} is unlike the first text of a pair; name the second with --pair-column")
    if first and second:
        return (first, second, unlike) if unlike else (first, second)
    if first and not negative:
        return (first,)
    texts = [name for name in free if not _numeric(table, name)]
    fewest, most = (1, 1) if given.pair else (2, 2) if negative else (1, 3)
    if not fewest <= len(texts) <= most:
        raise CorpusError(
            f"cannot tell which columns of {table.path} are the texts (its columns are {', '.join(table.columns)}); "
            "name them with --text-column and --pair-column"
        )
    return (*texts, *(name for name in (given.pair, negative) if name))


def _score(table: Table, given: ColumnsConfig) -> str | None:
    """Return the column of scores: given, by name, or the third of a file without a header, where it holds numbers."""
    if given.label:
        return given.label
    named = first_known(by_lower_name(table.columns), SCORES)
    return named or ("3" if list(table.columns) == ["1", "2", "3"] and _numeric(table, "3") else None)


def _numeric(table: Table, name: str) -> bool:
    try:
        numbers_of(table.path, table.columns[name], column=name)
    except CorpusError:
        return False
    return True
