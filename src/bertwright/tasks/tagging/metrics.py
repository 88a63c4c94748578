"""Turns tags into entities and compares them: precision, recall and F1 as conlleval and seqeval count them.

An entity counts as found only where its first word, its last word and its type are all right (Tjong Kim Sang and De
Meulder, 2003). Tags that break their scheme are read as those tools read them: I- after another type opens an entity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bertwright.tasks.tagging.notations import BARE, Notation, read_notation

OUTSIDE, BEGIN, INSIDE, END, SINGLE = range(5)
LETTERS = {"O": OUTSIDE, "B": BEGIN, "I": INSIDE, "E": END, "S": SINGLE}
UNNAMED = "entity"
"""What entities are called whose tags are letters alone."""
INSTEAD = {BEGIN: (BEGIN, INSIDE), INSIDE: (INSIDE,), END: (END, INSIDE), SINGLE: (SINGLE, BEGIN, END, INSIDE)}
"""Letters that stand for a letter, the first of them that a model knows."""


@dataclass(frozen=True)
class TagSet:
    """The letter and type of each of K tags.

    letters [K] uint8    kinds [K] int64 into `types`, -1 outside of entities
    """

    letters: np.ndarray
    kinds: np.ndarray
    types: tuple[str, ...]

    @property
    def shown(self) -> tuple[str, ...]:
        """The types as they are shown: "entity" for the one of tags that are letters alone."""
        return tuple(UNNAMED if kind == BARE else kind for kind in self.types)

    @property
    def closes(self) -> bool:
        """Whether the last word of an entity has a letter of its own, as in BIOES."""
        return bool(np.isin(self.letters, (END, SINGLE)).any())

    def tag_of(self, letter: int, kind: int) -> int:
        """Return the tag of a letter and a type, or the one that stands for it; -1 where there is none."""
        for one in (OUTSIDE,) if letter == OUTSIDE else INSTEAD[letter]:
            found = np.flatnonzero((self.letters == one) & ((self.kinds == kind) | (one == OUTSIDE)))
            if len(found):
                return int(found[0])
        return -1


@dataclass(frozen=True)
class Entities:
    """Entities in order: first and last word [M], counted over all sentences, and type [M]."""

    first: np.ndarray
    last: np.ndarray
    kind: np.ndarray


@dataclass(frozen=True)
class Found:
    """How many entities there were, were predicted, and were both."""

    labels: int
    predictions: int
    right: int

    @property
    def precision(self) -> float:
        """Fraction of what was predicted that is right; 0 where nothing was."""
        return self.right / self.predictions if self.predictions else 0.0

    @property
    def recall(self) -> float:
        """Fraction of what there was that was predicted; 0 where there was nothing."""
        return self.right / self.labels if self.labels else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of both."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total else 0.0


def tag_set(tags: Sequence[str], notation: Notation | None = None) -> TagSet:
    """Return the letters and types of tags such as O, B-PER, I-PER, whatever their notation.

    All are outside of entities where the tags have no notation.
    """
    notation = notation or read_notation(tags)
    split = [("O", BARE) if notation is None else notation.split(tag) for tag in tags]
    types = tuple(sorted({kind for letter, kind in split if letter != "O"}))
    return TagSet(
        letters=np.array([LETTERS[letter] for letter, _ in split], dtype=np.uint8),
        kinds=np.array([-1 if letter == "O" else types.index(kind) for letter, kind in split], dtype=np.int64),
        types=types,
    )


def entities_of(tags: np.ndarray, counts: np.ndarray, labels: TagSet) -> Entities:
    """Return the entities in tags [W] of sentences of `counts` [N] words; none reaches into the next sentence."""
    letters, kinds = labels.letters[tags], labels.kinds[tags]
    ends = np.cumsum(counts)
    ends = ends[counts > 0]
    before, before_kind = np.roll(letters, 1), np.roll(kinds, 1)
    if len(tags):
        begins = np.concatenate([[0], ends[:-1]])
        before[begins], before_kind[begins] = OUTSIDE, -1
    opens = np.isin(letters, (BEGIN, SINGLE)) | np.isin(before, (OUTSIDE, END, SINGLE)) | (before_kind != kinds)
    opens &= letters != OUTSIDE
    after, after_opens = np.roll(letters, -1), np.roll(opens, -1)
    if len(tags):
        after[ends - 1] = OUTSIDE
    closes = (letters != OUTSIDE) & ((after == OUTSIDE) | after_opens)
    first = np.flatnonzero(opens)
    return Entities(first, np.flatnonzero(closes), kinds[first])


def letters_of(found: Entities, words: int, *, closes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return letter [W] and type [W] of each of `words` words, as IOB2 writes them or, if one `closes`, as BIOES."""
    letters, kinds = np.zeros(words, dtype=np.uint8), np.full(words, -1, dtype=np.int64)
    sizes = found.last - found.first + 1
    owner = np.repeat(np.arange(len(sizes)), sizes)
    places = np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner] + found.first[owner]
    letters[places], kinds[places] = INSIDE, found.kind[owner]
    letters[found.first] = BEGIN
    if closes:
        letters[found.last] = END
        letters[found.first[sizes == 1]] = SINGLE
    return letters, kinds


def counts_by_sentence(
    labels: Entities, predictions: Entities, counts: np.ndarray, *, types: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how many entities each of N sentences of `counts` [N] words has, are predicted, and are both: [N] each."""
    sides = (labels, predictions)
    keys = [(found.first * (counts.sum() + 1) + found.last) * max(1, types) + found.kind for found in sides]
    ends = np.cumsum(counts)
    owners = [np.searchsorted(ends, found.first, side="right") for found in sides]
    there, given = (np.bincount(owner, minlength=len(counts)) for owner in owners)
    return there, given, np.bincount(owners[0][np.isin(keys[0], keys[1])], minlength=len(counts))


def compare(labels: Entities, predictions: Entities, *, words: int, types: int) -> list[Found]:
    """Return how many entities were found: in all, and then of each type."""
    keys = [(found.first * (words + 1) + found.last) * max(1, types) + found.kind for found in (labels, predictions)]
    right = labels.kind[np.isin(keys[0], keys[1])]
    counts = [np.bincount(kind, minlength=types) for kind in (labels.kind, predictions.kind, right)]
    each = [Found(*(int(count[kind]) for count in counts)) for kind in range(types)]
    return [Found(*(int(count.sum()) for count in counts)), *each]
