"""Turns tags as people write them (B-PER, PER-B, B_PER, b-per, B alone) into a letter and a type, without guessing.

A notation is taken only where every tag of a file, or of a model, fits it, and where its letters are those of one
scheme. All schemes are read with five letters: M is an I, L an E, U and W an S.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product

OUTSIDE_TAGS = ("O", "o")
"""Tags of words that are in no entity."""
LETTERS = "BIESLUMW"
SAME_AS = {"M": "I", "L": "E", "U": "S", "W": "S"}
"""Letters of BILOU, BMES and BMEWO as BIOES writes them."""
SEPARATORS = ("-", "_", ":", "/", ".")
ALPHABETS = [frozenset({"B", *others}) for others in product("IM", "EL", "SUW")]
"""The letters of each scheme, but for O."""
BARE = ""
"""The type of entities whose tags are letters alone."""


@dataclass(frozen=True)
class Notation:
    """How tags are written, in one of them: `pattern` finds "letter" and "type" in each that is inside an entity."""

    example: str
    pattern: re.Pattern[str]

    def letter(self, tag: str) -> str:
        """Return the letter as it is written, in capitals; O outside of entities."""
        found = None if tag in OUTSIDE_TAGS else self.pattern.fullmatch(tag)
        return found.groupdict().get("letter", "I").upper() if found else "O"

    def split(self, tag: str) -> tuple[str, str]:
        """Return the letter, one of O, B, I, E and S, and the type.

        >>> read_notation(["O", "PER-U"]).split("PER-U")
        ('S', 'PER')
        """
        letter = self.letter(tag)
        found = None if letter == "O" else self.pattern.fullmatch(tag)
        return SAME_AS.get(letter, letter), found.groupdict().get("type", BARE) if found else BARE


TYPES_ALONE = Notation("TYPE", re.compile(r"(?P<type>.+)", re.DOTALL))
"""Tags that are types without a letter, each of them inside an entity."""


@cache
def notations() -> tuple[Notation, ...]:
    """Return the notations in the order in which they are tried."""
    return tuple(_notations())


def _notations() -> Iterator[Notation]:
    for separator, lower in product(SEPARATORS, (False, True)):
        letter, mark = (LETTERS.lower(), "b") if lower else (LETTERS, "B")
        prefix, kind = f"(?P<letter>[{letter}]){re.escape(separator)}(?P<type>.+)", "type" if lower else "TYPE"
        yield Notation(f"{mark}{separator}{kind}", re.compile(prefix, re.DOTALL))
    for separator, lower in product(SEPARATORS, (False, True)):
        letter, mark = (LETTERS.lower(), "b") if lower else (LETTERS, "B")
        suffix, kind = f"(?P<type>.+){re.escape(separator)}(?P<letter>[{letter}])", "type" if lower else "TYPE"
        yield Notation(f"{kind}{separator}{mark}", re.compile(suffix, re.DOTALL))
    yield Notation("B", re.compile(f"(?P<letter>[{LETTERS}])"))
    yield Notation("b", re.compile(f"(?P<letter>[{LETTERS.lower()}])"))


def read_notation(tags: Iterable[str]) -> Notation | None:
    """Return the notation of different tags; None where they mark no entities by letters.

    Letters alone are taken for tags of entities where there is a B among them, or an O.
    """
    every = set(tags)
    inside = every.difference(OUTSIDE_TAGS)
    for notation in notations() if inside else ():
        if not all(notation.pattern.fullmatch(tag) for tag in inside):
            continue
        letters = {notation.letter(tag) for tag in inside}
        bare = "type" not in notation.pattern.groupindex
        if in_one_scheme(letters) and (not bare or "B" in letters or inside < every):
            return notation
    return None


def in_one_scheme(letters: Iterable[str]) -> bool:
    """Say whether some scheme has all these letters."""
    some = frozenset(letters)
    return any(some <= alphabet for alphabet in ALPHABETS)


def marked_tag(tags: Iterable[str]) -> tuple[str, Notation] | None:
    """Return a tag with a letter among tags that do not all have one, and its notation; None where none has one.

    Where the letter is not set off by a hyphen before the type, it must be B or I, and some word outside of entities.
    """
    every = list(tags)
    outside = any(tag in OUTSIDE_TAGS for tag in every)
    for notation in notations():
        sure = notation.example == "B-TYPE"
        for tag in every:
            letter = notation.letter(tag)
            if letter != "O" and (sure or (outside and letter in "BI" and len(tag) > 1)):
                return tag, notation
    return None
