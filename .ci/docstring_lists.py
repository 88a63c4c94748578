"""Turns a docstring into Markdown for the site: aligned lines, "name    meaning", into a list; examples into code.

Functions whose flags are declared apart, by the decorator with_flags, are shown with all of them, as help() does.
"""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import griffe

ALIGNED = re.compile(r"^(\w[\w, ]*?)(?: {2,}|\n {4,})(\S.*(?:\n {4,}\S.*)*)$", re.M)
"""A name (or several), its meaning behind two blanks or on the next line; lines further in belong to it."""
SECTION = re.compile(r"\n\n\w+\n-{3,}\n")
"""Where the sections of a docstring begin."""
EXAMPLE = re.compile(r"^>>> .*(?:\n.*\S.*)*$", re.M)
"""A line of an interactive session, and all up to the next empty line."""


class DocstringLists(griffe.Extension):
    """Rewrites each docstring when griffe has read the object it belongs to."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite the docstring of `obj`, if it has one, and its parameters, if it has others than its source says."""
        if isinstance(obj, griffe.Function) and any("with_flags(" in str(one.value) for one in obj.decorators):
            complete(obj)
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)


def complete(function: griffe.Function) -> None:
    """Give a function the signature and the docstring that it has when it is imported."""
    imported = getattr(import_module(str(function.module.path)), function.name)
    function.parameters = griffe.Parameters(
        *(
            griffe.Parameter(
                one.name,
                annotation=inspect.formatannotation(one.annotation).strip("'"),
                kind=griffe.ParameterKind(one.kind.description),
                default=None if one.default is one.empty else repr(one.default),
            )
            for one in inspect.signature(imported).parameters.values()
        )
    )
    function.docstring = griffe.Docstring(inspect.getdoc(imported) or "", parent=function)


def as_markdown(text: str) -> str:
    """Return a docstring with its aligned lines as list items and its examples in fences; prose stays as it is.

    Sections such as Parameters, with a line below their title, stay as they are, too.
    """

    def item(match: re.Match[str]) -> str:
        names = ", ".join(f"`{name.strip()}`" for name in match[1].split(","))
        return f"- {names}: " + re.sub(r"\s*\n\s*", " ", match[2])

    section = SECTION.search(text)
    prose, sections = (text[: section.start()], text[section.start() :]) if section else (text, "")
    fenced = EXAMPLE.sub(lambda match: f"```pycon\n{match[0]}\n```", prose)
    return ALIGNED.sub(item, fenced) + sections
