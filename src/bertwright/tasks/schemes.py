"""Tells in which scheme entities are marked, and writes them all as IOB2 or BIOES; plain tags stay as they are.

IOB1   B- opens an entity only where it touches another of its type (CoNLL-2003 as published)
IOB2   B- opens every entity, I- goes on                   IO     I- alone
BIOES  E- closes an entity of several words, S- is a whole one            BILOU  the same with L- and U-
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np

from bertwright.errors import CorpusError
from bertwright.log import note
from bertwright.tasks.conll import TaggedWords

Scheme = Literal["iob", "bioes", "plain"]
"""What the tags are written as for the model: IOB2, BIOES, or as they are."""
OUTSIDE = "O"
MARK = re.compile(r"([BIESLU])-(.+)")
MOST_STRAYS = 0.05
"""Share of entities that may be opened in the manner of another scheme."""
LIKE = {"L": "E", "U": "S"}
"""BILOU's letters as BIOES writes them."""


def split_tag(tag: str) -> tuple[str, str]:
    """Return the letter and the type of a tag, ("O", "") outside of entities and ("", tag) where there is no letter.

    >>> split_tag("U-PER")
    ('S', 'PER')
    """
    if tag == OUTSIDE:
        return OUTSIDE, ""
    marked = MARK.fullmatch(tag)
    return (LIKE.get(marked[1], marked[1]), marked[2]) if marked else ("", tag)


def tell_scheme(words: TaggedWords) -> tuple[str, Scheme]:
    """Return what the scheme of a training file is called, and what it becomes; raises CorpusError on a mixture."""
    letters = {split_tag(name)[0] for name in words.names} - {OUTSIDE}
    if letters <= {""}:
        return "plain tags", "plain"
    if "" in letters:
        stray = next(index for index, name in enumerate(words.names) if split_tag(name)[0] == "")
        raise CorpusError(
            f"{_where(words, stray)} has the tag {words.names[stray]!r}, though others are marked B-, I- and so on; "
            "mend it"
        )
    if letters & {"E", "S"}:
        return ("BILOU" if any(name[0] in "LU" for name in words.names) else "BIOES"), "bioes"
    return _by_openings(words), "iob"


def _by_openings(words: TaggedWords) -> str:
    """Return IO, IOB1 or IOB2, whichever most entities are opened in; real files have a stray tag here and there.

    Strays are told of, and read as conlleval reads them; where they are many, CorpusError names two that disagree.
    """
    opens, begins = _openings(words)
    if not any(name.startswith("B-") for name in words.names):
        return "IO"
    name, strays = ("IOB2", opens) if begins.sum() >= opens.sum() else ("IOB1", begins)
    count = int(strays.sum())
    if count > MOST_STRAYS * (opens.sum() + begins.sum()):
        first, other = int(np.flatnonzero(opens)[0]), int(np.flatnonzero(begins)[0])
        raise CorpusError(
            f"{words.path} mixes IOB1 and IOB2: line {words.lines[first]:,} opens an entity with "
            f"{words.names[words.tags[first]]}, line {words.lines[other]:,} with {words.names[words.tags[other]]}; "
            "mend one"
        )
    if count:
        first = int(np.flatnonzero(strays)[0])
        note(
            f"{words.path}: {count:,} tags are not {name}, the first of them on line {words.lines[first]:,}; they are "
            "read as the start of an entity"
        )
    return name


def _where(words: TaggedWords, name: int) -> str:
    return f"{words.path} line {words.lines[int(np.flatnonzero(words.tags == name)[0])]:,}"


def _openings(words: TaggedWords) -> tuple[np.ndarray, np.ndarray]:
    """Return bool [W] twice: I- that opens an entity, and B- that does so where IOB1 would write I-."""
    letters = np.array([split_tag(name)[0] for name in words.names])[words.tags]
    types = np.unique([split_tag(name)[1] for name in words.names], return_inverse=True)[1][words.tags]
    goes_on = np.zeros(len(letters), dtype=bool)
    goes_on[1:] = (letters[:-1] != OUTSIDE) & (types[:-1] == types[1:])
    goes_on[(np.cumsum(words.counts) - words.counts)] = False
    return (letters == "I") & ~goes_on, (letters == "B") & ~goes_on


def tag_names(words: TaggedWords, scheme: Scheme) -> list[str]:
    """Return the tags a model of these types answers with: O first, then those of each type in order."""
    if scheme == "plain":
        return sorted(words.names)
    types = sorted({split_tag(name)[1] for name in words.names} - {""})
    letters = "BI" if scheme == "iob" else "BIES"
    return [OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in letters)]


def lawful_steps(labels: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which tags may open a sentence [K], follow one another [K, K] (from, to), and end it [K], bool.

    In IOB2 an I- goes on with an entity of its type; in BIOES an entity of several words is closed by its E- as well;
    plain tags follow one another as they like.
    """
    letters, types = (np.array(part) for part in zip(*map(split_tag, labels), strict=True))
    goes_on, is_open = np.isin(letters, ("I", "E")), np.isin(letters, ("B", "I"))
    same = types[:, None] == types[None, :]
    following = ~goes_on[None, :] | (is_open[:, None] & same)
    last = np.ones(len(labels), dtype=bool)
    if {"E", "S"} & set(letters.tolist()):
        following &= ~is_open[:, None] | (goes_on[None, :] & same)
        last = ~is_open
    return ~goes_on, following, last


def in_scheme(words: TaggedWords, scheme: Scheme, labels: Sequence[str]) -> np.ndarray:
    """Return the tags as places in `labels`, int64 [W]: IOB1 and IO become IOB2, BILOU becomes BIOES.

    Raises CorpusError naming the line where a tag is outside the scheme or of a type the labels lack.
    """
    index = {label: place for place, label in enumerate(labels)}
    written = [
        "-".join(part for part in split_tag(name) if part) if scheme != "plain" else name for name in words.names
    ]
    unknown = next((place for place, name in enumerate(written) if name not in index), None)
    if unknown is not None:
        known = ", ".join(labels[:24])
        raise CorpusError(
            f"{_where(words, unknown)} has the tag {words.names[unknown]!r}, which the training file has no place for; "
            f"known: {known}"
        )
    tags: np.ndarray = np.array([index[name] for name in written], dtype=np.int64)[words.tags]
    if scheme == "iob":
        opens, _ = _openings(words)
        begun = {index[name]: index[f"B-{name[2:]}"] for name in written if name.startswith("I-")}
        for inside, begin in begun.items():
            tags[opens & (tags == inside)] = begin
    return tags
