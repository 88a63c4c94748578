"""Turns a file without labels into the input of `predict`: a test file whose labels are kept secret has predictions."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from bertwright.corpus.readers.cells import PADDING
from bertwright.corpus.readers.table import read_table
from bertwright.errors import CorpusError
from bertwright.tasks.columns import KNOWN, Columns, ColumnsConfig, by_lower_name, first_known, texts_by_name

NO_LABEL = frozenset(("", "-1", "-1.0", "?", "nan", "none", "null", "n/a"))
"""What stands in the column of labels where nobody may know them."""
NUMBERS_OF_ROWS = frozenset(("", "id", "idx", "index", "guid", "unnamed: 0"))
"""Names of columns that hold no label, whatever is in them."""


@dataclass(frozen=True)
class UnlabelledFile:
    """A file to predict, and the columns of its texts, where it has columns."""

    path: Path
    text: str | None = None
    pair: str | None = None


def are_no_labels(cells: Sequence[str], *, known: Collection[str] = ()) -> bool:
    """Return whether cells say nothing: all are empty, or what stands for that; `known` are labels."""
    return all(cell.strip(PADDING).lower() in NO_LABEL and cell not in known for cell in cells)


def unlabelled_texts(path: Path, columns: Columns, *, known: Collection[str] = ()) -> UnlabelledFile | None:
    """Return a table that has the texts of the training file and no labels as what is to be predicted; None elsewhere.

    `known` are the labels there are.
    """
    texts = [name for name in (columns.first, columns.second) if name is not None]
    table = read_table(path, names=KNOWN, given={*texts, *columns.targets}, one_column=True, encoding=columns.encoding)
    cells = [table.columns[name] for name in columns.targets if name in table.columns]
    if any(name not in table.columns for name in texts) or not all(are_no_labels(one, known=known) for one in cells):
        return None
    return UnlabelledFile(path, columns.first, columns.second)


def refuse_unlabelled(path: Path, given: ColumnsConfig, *, targets: Sequence[str], model: Path) -> None:
    """Raise CorpusError where a table that a model is to be evaluated on has no labels; `targets` are their names."""
    table = read_table(path, names=KNOWN, given=given.names(), one_column=True, encoding=given.encoding)
    lower = by_lower_name(table.columns)
    target = given.label or first_known(lower, targets)
    if target in table.columns:
        nothing = are_no_labels(table.columns[str(target)])
    else:
        texts = {given.text, given.pair, *texts_by_name(lower, None)}
        others = [name for name in table.columns if name not in texts and name.strip().lower() not in NUMBERS_OF_ROWS]
        nothing = given.label is None and (len(table.columns) == 1 or not others)
    if nothing:
        raise CorpusError(no_labels(path, model))


def no_labels(path: Path, model: Path) -> str:
    """Return the sentence for a file that a model cannot be evaluated on."""
    return (
        f"{path} has no labels to compare with; to have it predicted: "
        f"bertwright predict --model {model} --input {path} --output predictions.jsonl"
    )
