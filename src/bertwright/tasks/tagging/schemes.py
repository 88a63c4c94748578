"""Recognises in which scheme a file marks entities, and writes them all as IOB2 or BIOES; plain tags stay as they are.

IOB1   B- opens an entity only where it touches another of its type (CoNLL-2003 as published)
IOB2   B- opens every entity, I- goes on                   IO     I- alone, or types alone
IOE1, IOE2   the same with E- at the end of entities
BIOES  E- closes an entity of several words, S- is a whole one
BILOU  the same with L- and U-          BMES, BMEWO   with M- inside, and W- for a whole one

The letter may stand before or after the type, in capitals or not, or alone: `notations.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from bertwright.errors import CorpusError
from bertwright.log import note
from bertwright.tasks.tagging.metrics import (
    BEGIN,
    END,
    INSIDE,
    OUTSIDE,
    SINGLE,
    Entities,
    TagSet,
    entities_of,
    letters_of,
    tag_set,
)
from bertwright.tasks.tagging.notations import (
    BARE,
    OUTSIDE_TAGS,
    TYPES_ALONE,
    Notation,
    in_one_scheme,
    marked_tag,
    read_notation,
)
from bertwright.tasks.tagging.tag_columns import TaggedWords

Scheme = Literal["iob", "bioes", "plain"]
"""What the tags are written as for the model: IOB2, BIOES, or as they are."""
MOST_INVALID = 0.05
"""Share of entities that may be opened, or closed, in the manner of another scheme."""
AS_INSIDE = str.maketrans("Bb", "Ii")
"""Makes I-TYPE of B-TYPE: some schemes have no B."""
MANY_TAGS = 20
"""Plain tags from which on each should stand at several words."""


@dataclass(frozen=True)
class FileScheme:
    """How a file marks entities: the name of its scheme, what that becomes, and how its tags are written."""

    name: str
    becomes: Scheme
    notation: Notation | None = None

    def __str__(self) -> str:
        """Return the name, how the tags are written in the file, and as what they are learned."""
        if self.notation is None:
            return self.name
        learned = "IOB2" if self.becomes == "iob" else "BIOES"
        also = "" if self.name == learned else f", learned as {learned}"
        inside = self.name in ("IO", "IOE1", "IOE2")
        example = self.notation.example.translate(AS_INSIDE if inside else {})
        return f"{self.name}, tags written as {example}{also}"


def detect_scheme(words: TaggedWords) -> FileScheme:
    """Return the scheme of a training file; raises CorpusError naming a line where it is a mixture of two."""
    notation = read_notation(words.names)
    if notation is None and _are_types(words):
        return FileScheme("IO", "iob", TYPES_ALONE)
    if notation is None:
        _refuse_mixture(words)
        _refuse_odd_tags(words)
        return FileScheme("plain tags", "plain")
    letters = {notation.letter(name) for name in words.names} - {"O"}
    if letters <= {"B", "I"}:
        return FileScheme(_by_openings(words, notation), "iob", notation)
    if letters <= {"I", "E"}:
        return FileScheme(_by_closings(words, notation), "iob", notation)
    name = "BILOU" if letters & {"L", "U"} else "BMES" if "M" in letters else "BIOES"
    return FileScheme("BMEWO" if "W" in letters else name, "bioes", notation)


def _are_types(words: TaggedWords) -> bool:
    """Say whether tags without letters are types of entities: where O is among them, and the commonest."""
    counts = np.bincount(words.tags, minlength=len(words.names))
    return len(counts) > 1 and words.names[int(counts.argmax())] in OUTSIDE_TAGS and marked_tag(words.names) is None


def _refuse_mixture(words: TaggedWords) -> None:
    found = marked_tag(words.names)
    if found is None:
        return
    marked, notation = found
    inside = [name for name in words.names if name not in OUTSIDE_TAGS]
    stray = next((name for name in inside if notation.letter(name) == "O"), None)
    if stray is not None:
        raise CorpusError(
            f"{_where(words, stray)} has the tag {stray!r}, though others mark entities as {marked!r} does; write all "
            "tags alike, and O where there is no entity"
        )
    letters = {notation.letter(name): name for name in inside}
    first, other = _no_scheme(letters)
    raise CorpusError(
        f"{words.path} mixes schemes: {_where(words, letters[first])} has the tag {letters[first]!r}, "
        f"{_where(words, letters[other])} has {letters[other]!r}, and no scheme has both; write all tags in one scheme"
    )


def _no_scheme(letters: dict[str, str]) -> tuple[str, str]:
    """Return two letters that no scheme has together."""
    some = sorted(letters)
    pairs = [(one, two) for place, one in enumerate(some) for two in some[place + 1 :]]
    return next(pair for pair in pairs if not in_one_scheme(pair))


def _refuse_odd_tags(words: TaggedWords) -> None:
    """Raise CorpusError where plain tags are no tags: brackets of CoNLL-2012, or words."""
    inside = [name for name in words.names if name not in OUTSIDE_TAGS]
    bracket = next((name for name in inside if name.startswith("(") and name.rstrip(")").endswith("*")), None)
    if bracket is not None and any("*" in name for name in inside if name != bracket):
        raise CorpusError(
            f"{_where(words, bracket)} has the tag {bracket!r}: entities in brackets, as CoNLL-2012 writes them, are "
            "not read; write them as B-TYPE and I-TYPE"
        )
    if len(words.names) > MANY_TAGS and 4 * len(words.names) > len(words.words):
        raise CorpusError(
            f"{words.path} has {len(words.names):,} different tags at {len(words.words):,} words, such as "
            f"{words.names[0][:40]!r}; name the column of the tags with --label-column"
        )


def _by_openings(words: TaggedWords, notation: Notation) -> str:
    """Return IO, IOB1 or IOB2, whichever most entities are opened in; real files have an invalid tag here and there.

    The few that are opened otherwise are noted, and read as conlleval reads them; where they are many, CorpusError
    names two that disagree.
    """
    letters, goes_on = _runs(words, notation)
    if not (letters == BEGIN).any():
        return "IO"
    return _of_two(words, ("IOB1", "IOB2"), (letters == INSIDE) & ~goes_on, (letters == BEGIN) & ~goes_on, "opens")


def _by_closings(words: TaggedWords, notation: Notation) -> str:
    """Return IOE1 or IOE2, whichever most entities are closed in."""
    letters, goes_on = _runs(words, notation)
    last = ~np.append(goes_on[1:], False)
    return _of_two(words, ("IOE1", "IOE2"), (letters == INSIDE) & last, (letters == END) & last, "closes")


def _of_two(words: TaggedWords, names: tuple[str, str], first: np.ndarray, second: np.ndarray, verb: str) -> str:
    """Return the scheme that more words speak for: `first` bool [W] for the first, `second` for the other."""
    name, invalid = (names[1], first) if second.sum() >= first.sum() else (names[0], second)
    count = int(invalid.sum())
    if count > MOST_INVALID * (first.sum() + second.sum()):
        one, other = int(np.flatnonzero(first)[0]), int(np.flatnonzero(second)[0])
        raise CorpusError(
            f"{words.path} mixes {names[0]} and {names[1]}: {words.unit} {words.lines[one]:,} {verb} an entity with "
            f"{words.names[words.tags[one]]}, {words.unit} {words.lines[other]:,} with "
            f"{words.names[words.tags[other]]}; write all tags in one scheme"
        )
    if count:
        at = words.lines[int(np.flatnonzero(invalid)[0])]
        end = "start" if verb == "opens" else "end"
        note(
            f"{words.path}: {count:,} tags are not {name}, the first of them on {words.unit} {at:,}; they are read as "
            f"the {end} of an entity"
        )
    return name


def _where(words: TaggedWords, name: str) -> str:
    place = int(np.flatnonzero(words.tags == words.names.index(name))[0])
    return f"{words.path} {words.unit} {words.lines[place]:,}"


def _runs(words: TaggedWords, notation: Notation) -> tuple[np.ndarray, np.ndarray]:
    """Return the letters [W], and bool [W]: whether the word before, in the same sentence, is of the same type."""
    tags = tag_set(words.names, notation)
    letters, kinds = tags.letters[words.tags], tags.kinds[words.tags]
    goes_on = np.zeros(len(letters), dtype=bool)
    goes_on[1:] = (letters[:-1] != OUTSIDE) & (kinds[:-1] == kinds[1:])
    goes_on[(np.cumsum(words.counts) - words.counts)] = False
    return letters, goes_on


def tag_labels(words: TaggedWords, scheme: FileScheme) -> list[str]:
    """Return the tags a model of these types answers with: O first, then those of each type in order."""
    if scheme.becomes == "plain":
        return sorted(words.names)
    types = tag_set(words.names, scheme.notation).types
    folded = [kind.casefold() for kind in types]
    twice = next((kind for kind in types if folded.count(kind.casefold()) > 1), None)
    if twice is not None:
        other = next(kind for kind in types if kind != twice and kind.casefold() == twice.casefold())
        note(f"{words.path}: the types {twice!r} and {other!r} differ by case alone and are kept apart")
    letters = "BI" if scheme.becomes == "iob" else "BIES"
    return ["O", *(letter if kind == BARE else f"{letter}-{kind}" for kind in types for letter in letters)]


def allowed_transitions(labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which tags may open a sentence [K], follow one another [K, K] (from, to), and end it [K], bool.

    In IOB2 an I- goes on with an entity of its type; in BIOES an entity of several words is closed by its E- as well;
    plain tags follow one another as they like.
    """
    tags = tag_set(labels)
    goes_on, is_open = np.isin(tags.letters, (INSIDE, END)), np.isin(tags.letters, (BEGIN, INSIDE))
    same = tags.kinds[:, None] == tags.kinds[None, :]
    following = ~goes_on[None, :] | (is_open[:, None] & same)
    last = np.ones(len(labels), dtype=bool)
    if tags.closes:
        following &= ~is_open[:, None] | (goes_on[None, :] & same)
        last = ~is_open
    return ~goes_on, following, last


def as_labels(words: TaggedWords, labels: Sequence[str]) -> np.ndarray:
    """Return the tags of a file as places in the `labels` of a model, int64 [W].

    Entities are the same whatever scheme the file has; plain tags are found by their names. Raises CorpusError naming
    the line where a tag is none that the model knows.
    """
    known, notation = tag_set(labels), read_notation(words.names)
    if not known.types:
        return _plain(words, labels)
    if notation is None and set(words.names) <= {*known.types, *OUTSIDE_TAGS}:
        notation = TYPES_ALONE
    strange = _strange(words, known, notation)
    if strange is not None:
        raise CorpusError(_unknown(words, strange, labels))
    tags = tag_set(words.names, notation)
    found = entities_of(words.tags, words.counts, tags)
    letters, kinds = letters_of(found, len(words.words), closes=known.closes)
    _note_broken(words, tags, found)
    kind_of = [*(known.types.index(kind) for kind in tags.types), -1]
    table = np.array([[known.tag_of(letter, kind) for kind in kind_of] for letter in range(SINGLE + 1)], dtype=np.int64)
    written: np.ndarray = table[letters, kinds]
    lost = np.flatnonzero(written < 0)
    if len(lost):
        raise CorpusError(_unknown(words, words.names[words.tags[lost[0]]], labels))
    return written


def _plain(words: TaggedWords, labels: Sequence[str]) -> np.ndarray:
    index = {label: place for place, label in enumerate(labels)}
    strange = next((name for name in words.names if name not in index), None)
    if strange is not None:
        raise CorpusError(_unknown(words, strange, labels))
    places: np.ndarray = np.array([index[name] for name in words.names], dtype=np.int64)
    found: np.ndarray = places[words.tags]
    return found


def _strange(words: TaggedWords, known: TagSet, notation: Notation | None) -> str | None:
    """Return a tag of the file whose type the model does not know; None where it knows all."""
    inside = (name for name in words.names if name not in OUTSIDE_TAGS)
    return next((name for name in inside if notation is None or notation.split(name)[1] not in known.types), None)


def _unknown(words: TaggedWords, name: str, labels: Sequence[str]) -> str:
    known = ", ".join(labels[:24])
    return f"{_where(words, name)} has the tag {name!r}, which the training file has no place for; known: {known}"


def _note_broken(words: TaggedWords, tags: TagSet, found: Entities) -> None:
    """Note how many tags of BIOES break it; entities are read as conlleval reads them."""
    if not tags.closes or not (tags.letters == BEGIN).any():
        return
    letters, _ = letters_of(found, len(words.words), closes=True)
    broken = np.flatnonzero(tags.letters[words.tags] != letters)
    if len(broken):
        note(
            f"{words.path}: {len(broken):,} tags break their scheme, the first of them on {words.unit} "
            f"{words.lines[broken[0]]:,}; entities are read as conlleval reads them"
        )
