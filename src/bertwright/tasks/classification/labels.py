"""Turns cells of a labelled table into names of labels: one a cell, or several in a list or between separators."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bertwright.corpus.readers.cells import PADDING, as_label, as_text, list_items
from bertwright.errors import CorpusError
from bertwright.log import note

SEPARATORS = ("|", ";", ",", "；", "，", "、")
"""What is looked for between the labels of a cell, in this order."""


def index_of(labels: Sequence[str]) -> dict[str, int]:
    """Return the places of labels by name, and by the names that tables have for those of an earlier folder."""
    places = {label: place for place, label in enumerate(labels)}
    return {as_label(label): place for label, place in places.items()} | places


def is_list(cell: str) -> bool:
    """Return whether a cell begins as a list does, or is a tuple or set of texts as Python writes them."""
    trimmed = cell.strip(PADDING)
    return trimmed.startswith("[") or _in_tuple(trimmed) is not None


def _in_tuple(text: str) -> str | None:
    """Return what stands in a tuple or set of texts, as Python writes it; None where that is none."""
    text = text.removeprefix("set") if text.startswith("set(") else text
    if text[:1] + text[-1:] not in ("()", "{}"):
        return None
    inside = text[1:-1].strip().removesuffix(",").rstrip()
    return inside if not inside or (len(inside) > 1 and {inside[0], inside[-1]} <= {"'", '"'}) else None


def labels_in(cell: str, separator: str) -> list[str] | None:
    """Return the labels of a cell: a list as JSON, Python or numpy writes it, or what stands between separators.

    None where it begins as a list and is none.

    >>> labels_in("['a' 'b']", "|"), labels_in("a | b|", "|"), labels_in("[a", "|")
    (['a', 'b'], ['a', 'b'], None)
    """
    found = items_in(cell) if is_list(cell) else list(map(as_label, cell.split(separator)))
    return None if found is None else [name for name in found if name]


def items_in(cell: str) -> list[str] | None:
    """Return the names in a list, tuple or set, "" for what is no label; None where the cell is none of these."""
    text = cell.strip(PADDING)
    inside = _in_tuple(text)
    items = list_items(text if inside is None else f"[{inside}]")
    return None if items is None else [as_label(as_text(item)) for item in items]


def separator_of_labels(path: Path, cells: Sequence[str], *, known: Sequence[str] = ()) -> str:
    """Return what stands between the labels of some cells; `known` are labels of a trained model.

    Where labels are known, it is what leaves known ones alone. Elsewhere it is a bar, a semicolon or a comma: the only
    one that occurs, if labels are found on both sides of it that occur in other company too. A bar alone needs no such
    proof. Raises CorpusError where that is not clear.
    """
    several = [cell for cell in cells if not is_list(cell)]
    found = [separator for separator in SEPARATORS if any(separator in cell for cell in several)]
    if known:
        names = {*known, *map(as_label, known)}
        fits = (one for one in found if all(names.issuperset(labels_in(cell, one) or ()) for cell in several))
        return next(fits, SEPARATORS[0])
    if not found:
        _refuse_blanks(path, several)
    if not found or found[0] == SEPARATORS[0]:
        return SEPARATORS[0]
    example = next(cell for cell in several if found[0] in cell)[:60]
    if len(found) > 1 or not _is_between(several, found[0]):
        either = " and ".join(repr(separator) for separator in found)
        raise CorpusError(
            f"the labels of {path} hold {either}, as in {example!r}: is that between labels, or part of their names? "
            f"give --label-separator {found[0]!r}, or {SEPARATORS[0]!r} if it is part of a name"
        )
    note(f"{path}: {found[0]!r} stands between labels, as in {example!r} (--label-separator to say otherwise)")
    return found[0]


def _refuse_blanks(path: Path, cells: Sequence[str]) -> None:
    """Raise CorpusError where the words of a cell are labels of other cells: blanks may stand between labels."""
    names = {as_label(cell) for cell in cells}
    joined = next((name for name in sorted(names) if len(name.split()) > 1 and names.issuperset(name.split())), None)
    if joined is not None:
        raise CorpusError(
            f"{path} has the labels {joined[:60]!r}, whose words are labels of other rows: give --label-separator ' ' "
            f"if blanks stand between labels, or {SEPARATORS[0]!r} if that is one label"
        )


def _is_between(cells: Sequence[str], separator: str) -> bool:
    """Return whether a part of a cell occurs in another cell of other parts: names of labels are cut, not one name."""
    companies = Counter(name for cell in set(cells) for name in set(labels_in(cell, separator) or ()))
    return any(count > 1 for count in companies.values())


def note_combinations(path: Path, labels: Sequence[str]) -> None:
    """Say that labels look like several labels in one cell, where their parts occur in one another's company."""
    for separator in SEPARATORS:
        names = {name for label in labels for name in labels_in(label, separator) or ()}
        if len(names) < len(labels) and any(separator in label for label in labels) and _is_between(labels, separator):
            example = next(label for label in labels if separator in label)
            note(
                f"{path}: labels such as {example[:60]!r} look like several labels in one cell, and are taken as one "
                "class; give --multi-label to learn each by itself"
            )
            return


def note_case(path: Path, labels: Sequence[str]) -> None:
    """Say which labels differ by case alone: they are different labels."""
    alike: dict[str, list[str]] = {}
    for label in labels:
        alike.setdefault(label.casefold(), []).append(label)
    found = [" and ".join(map(repr, names)) for names in alike.values() if len(names) > 1]
    if found:
        note(
            f"{path}: labels that differ by case alone are different labels: {'; '.join(found[:5])}; "
            "write them alike if they are meant to be one"
        )
