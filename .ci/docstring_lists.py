"""Turns a docstring into Markdown for the site: aligned lines, "name    meaning", into a list; examples into code."""

from __future__ import annotations

import re
from typing import Any

import griffe

ALIGNED = re.compile(r"^(\w[\w, ]*?)(?: {2,}|\n {4,})(\S.*(?:\n {4,}\S.*)*)$", re.M)
"""A name (or several), its meaning behind two blanks or on the next line; lines further in belong to it."""
EXAMPLE = re.compile(r"^>>> .*(?:\n.*\S.*)*$", re.M)
"""A line of an interactive session, and all up to the next empty line."""


class DocstringLists(griffe.Extension):
    """Rewrites each docstring when griffe has read the object it belongs to."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of `obj`, if it has one."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with its aligned lines as list items and its examples in fences; prose stays as it is."""

    def item(match: re.Match[str]) -> str:
        names = ", ".join(f"`{name.strip()}`" for name in match[1].split(","))
        return f"- {names}: " + re.sub(r"\s*\n\s*", " ", match[2])

    fenced = EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", text)
    return ALIGNED.sub(item, fenced)
