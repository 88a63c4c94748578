"""Turns words such as --optimizer.learning-rate 5e-4 into nested settings, and answers flags that do not exist."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from bertwright.errors import UsageError
from bertwright.flags import advice, dashed
from bertwright.nested import merge, override


class UnknownFlagError(UsageError):
    """A word that looks like a flag, `name`, and is none of the verb."""

    def __init__(self, name: str) -> None:
        """Keep the name without a value that is joined to it."""
        self.name = name.partition("=")[0]
        super().__init__(f"{self.name!r} is no flag; settings are given as --SECTION.FIELD VALUE")


def parse_overrides(words: tuple[str, ...], *, verb: str) -> dict[str, Any]:
    """Return the nested settings of words such as --optimizer.learning-rate 5e-4 or --objective.whole-word=true.

    Raises UnknownFlagError for a flag of another kind, and UsageError for any other word.
    """
    settings: dict[str, Any] = {}
    queue = list(words)
    while queue:
        name = queue.pop(0)
        if not name.startswith("-"):
            raise UsageError(f"{name!r} is no flag of {verb}; settings are given as --SECTION.FIELD VALUE")
        if not name.startswith("--") or "." not in name.partition("=")[0]:
            raise UnknownFlagError(name)
        name, joined, value = name[2:].partition("=")
        if not joined:
            if not queue:
                raise UsageError(f"--{name} needs a value")
            value = queue.pop(0)
        settings = merge(settings, override(name, value))
    return settings


def answer(verb: str, word: str, known: Collection[str], *, settings: bool) -> str:
    """Return what to say of a flag that `verb` does not have: what to give instead, of the flags `known` of it.

    `settings` says whether the verb takes --SECTION.FIELD VALUE.
    """
    names = [name.removeprefix("--").replace("-", "_") for name in known]
    instead = advice(verb, word.removeprefix("--"), names, spelled=dashed)
    if instead:
        return f"{verb} has no flag {word}; {instead}"
    more = "; settings are given as --SECTION.FIELD VALUE" if settings else ""
    return f"{verb} has no flag {word}; see bertwright {verb} --help{more}"
