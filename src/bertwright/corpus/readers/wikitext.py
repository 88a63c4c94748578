"""Turns the markup of a wiki page into its prose: templates, tables, references and files out, the words of links in.

One walk over the brackets with a stack, then a few regular expressions, all in time that grows with the page's length
alone, whatever it holds. The parsers of wiki markup for Python build a tree of everything: on pages of 3 and 36 kB
mwparserfromhell went at 0.67 and 0.06 MB/s, and 150 kB of nothing but <b> kept it busy for minutes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection

DEEPEST = 50
"""Brackets inside brackets that are followed; deeper ones, which no page of prose has, are passed over."""

FILES_AND_CATEGORIES = frozenset({"file", "image", "media", "category"})
DROPPED_ELEMENTS = (
    "ref", "references", "math", "chem", "gallery", "timeline", "syntaxhighlight", "source", "score", "imagemap",
    "hiero", "graph", "mapframe", "maplink", "templatedata", "style", "script", "table",
)  # fmt: skip

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_ELEMENTS = "|".join(DROPPED_ELEMENTS)
_BRACKETS = re.compile(
    r"(?P<open>\{\{|\[\[)|(?P<close>\}\}|\]\])|(?P<table>^[ \t:]*\{\|)|(?P<end>^[ \t]*\|\}(?!\}))"
    rf"|<(?P<slash>/?)(?P<element>{_ELEMENTS})\b[^<>]{{0,2000}}>",
    re.MULTILINE | re.IGNORECASE,
)
_OUTER_LINK = re.compile(r"\[(?:[a-z]{2,10}:)?//[^\s\]]{0,500}(?:[ \t]{1,10}([^\]\n]{0,500}))?\]", re.IGNORECASE)
_VARIANT = re.compile(r"-\{([^{}]{0,500})\}-")
_SIMPLE = (
    (_OUTER_LINK, r"\1"),
    (re.compile(r"<[a-zA-Z/][^<>]{0,1000}>"), ""),
    (re.compile(r"'{2,}"), ""),
    (re.compile(r"^={1,6}[^\n]*={1,6}[ \t]*$", re.MULTILINE), ""),
    (re.compile(r"^[*#:;]+[ \t]*", re.MULTILINE), ""),
    (re.compile(r"^-{4,}", re.MULTILINE), ""),
    (re.compile(r"__[A-Z]{3,30}__"), ""),
)
_EMPTY_BRACKETS = re.compile(r"[ \t]?(?:\([\s,;:]{0,20}\)|（[\s，；：、]{0,20}）)")
_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(?:-[a-z]{2,12}){0,2}")
_CLOSES = {"}}": "{{", "]]": "[["}


def plain_text(markup: str, *, passed_over: Collection[str] = FILES_AND_CATEGORIES) -> str:
    """Return the prose of a page; links into the namespaces `passed_over` (lower case) leave nothing.

    Headings are left out, as they are no sentences; items of lists are lines of their own. Brackets that are never
    closed stay as text without the brackets.

    >>> plain_text("'''Ulm''' ({{lang|la|Ulma}}) is a [[city]] in [[Germany|the south]].<ref>A book</ref>")
    'Ulm is a city in the south.'
    """
    text = _without_brackets(_COMMENT.sub("", markup), passed_over)
    text = _VARIANT.sub(_first_variant, text)
    for pattern, replacement in _SIMPLE:
        text = pattern.sub(replacement, text)
    text = _EMPTY_BRACKETS.sub("", html.unescape(text))
    return text.strip()


def _without_brackets(text: str, passed_over: Collection[str]) -> str:
    """Take out templates, tables and dropped elements, and put the words of links in their place."""
    last_end = {match["element"].lower(): match.start() for match in _BRACKETS.finditer(text) if match["slash"]}
    out: list[str] = []
    open_at: list[tuple[str, int]] = []
    place, inside = 0, ""
    for match in _BRACKETS.finditer(text):
        element = (match["element"] or "").lower()
        if inside:
            if match["slash"] and element == inside:
                place, inside = match.end(), ""
            continue
        out.append(text[place : match.start()])
        place = match.end()
        if element:
            whole = match["slash"] or match[0].endswith("/>")
            inside = element if not whole and last_end.get(element, -1) > place else ""
        elif match["open"] or match["table"]:
            if len(open_at) < DEEPEST:
                open_at.append((match["open"] or "{|", len(out)))
        else:
            _close(_CLOSES.get(match["close"], "{|"), out, open_at, passed_over)
    out.append(text[place:])
    return "".join(out)


def _close(opening: str, out: list[str], open_at: list[tuple[str, int]], passed_over: Collection[str]) -> None:
    """End the innermost pair of brackets of a kind, with those left open in it; nothing where none is open."""
    depth = next((depth for depth in reversed(range(len(open_at))) if open_at[depth][0] == opening), None)
    if depth is None or (opening == "[[" and depth < len(open_at) - 1):
        return
    start = open_at[depth][1]
    words = _words_of_link("".join(out[start:]), passed_over) if opening == "[[" else ""
    del open_at[depth:], out[start:]
    out.append(words)


def _words_of_link(link: str, passed_over: Collection[str]) -> str:
    """Return what a reader sees of [[link]]: the part after its first bar, or its target."""
    target, bar, words = link.partition("|")
    namespace, colon, name = target.strip().partition(":")
    if colon and namespace and (namespace.strip().lower() in passed_over or _LANGUAGE_LINK.fullmatch(namespace)):
        return ""
    if bar:
        return words or target.partition("(")[0].strip()
    return name if colon and not namespace else target


def _first_variant(match: re.Match[str]) -> str:
    """Return the simplified form of a piece of Chinese that is written in several, -{zh-hans:..;zh-hant:..}-."""
    flags, bar, rest = match[1].rpartition("|")
    if bar and "A" not in flags.upper():
        return "" if set(flags.upper()) & set("HT-") else rest
    forms = dict(form.split(":", 1) for form in rest.split(";") if ":" in form)
    named = {name.strip().lower(): form for name, form in forms.items()}
    return next((named[name] for name in ("zh-hans", "zh-cn", "zh") if name in named), next(iter(named.values()), rest))
