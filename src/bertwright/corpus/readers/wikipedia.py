"""Turns a Wikipedia dump (pages-articles .xml, .xml.bz2, .xml.zst ...) into documents: an article each, as prose.

The dump streams through expat a megabyte at a time, so that memory holds one page, whatever the dump's size. Pages of
other namespaces than the articles' and redirects are passed over and counted. A dump declares no document type; one
that does could define entities that unfold to gigabytes, and is refused.

The markup of a page becomes prose: templates, tables, references and files are left out, links become their words.
"""

from __future__ import annotations

import html
import re
from collections.abc import Collection, Iterator
from xml.parsers import expat

import pyarrow as pa

from bertwright.corpus.readers.blocks import LONGEST_DOCUMENT, open_text
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.rows import TextBatch
from bertwright.errors import CorpusError

CHUNK = 1 << 20
LONGEST_TAG = 16 << 20
"""Bytes of one tag or other mark: expat holds it whole, and before 2.6 reads it again with each chunk."""
DEEPEST = 32
"""Elements inside elements; a dump has five."""
FILE_NAMESPACES = ("-2", "6", "14")
"""Media, File and Category: links there are pictures and lists, not words of the page; each wiki names them again."""
_READ = ("ns", "text", "namespace")


def read_wikipedia(path: TextFile) -> Iterator[TextBatch]:
    """Yield the articles of a dump; raises CorpusError where it is no dump, damaged, or hostile."""
    pages = _Pages(path)
    with open_text(path) as opened:
        while chunk := opened.stream.read(CHUNK):
            yield pages.fed(chunk, opened.file.tell())
        yield pages.fed(b"", opened.file.tell())


class _Pages:
    """Collects the articles of a dump while it is fed in chunks."""

    def __init__(self, path: TextFile) -> None:
        self._path = path
        self._parser = expat.ParserCreate(namespace_separator=None)
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._passed_over: set[str] = set(FILES_AND_CATEGORIES)
        self._depth = self._fed = self._size = self._left_out = 0
        self._reading = False
        self._parts: list[str] = []
        self._attributes: dict[str, str] = {}
        self._namespace, self._text, self._redirect = "", "", False
        self._articles: list[str] = []

    def fed(self, chunk: bytes, position: int) -> TextBatch:
        """Return the articles that end in the next chunk of the dump; an empty chunk is its end."""
        try:
            self._parser.Parse(chunk, not chunk)
        except expat.ExpatError as error:
            reason = expat.errors.messages.get(error.code, str(error))
            raise CorpusError(
                f"{self._path} is no whole XML file ({reason}, line {error.lineno:,}); fetch it again"
            ) from error
        self._fed += len(chunk)
        if self._fed - max(self._parser.CurrentByteIndex, 0) > LONGEST_TAG:
            raise CorpusError(f"{self._path} has a tag of more than {LONGEST_TAG >> 20} MiB; it is no Wikipedia dump")
        texts = [plain_text(text, passed_over=self._passed_over) for text in self._articles]
        self._articles, left_out, self._left_out = [], self._left_out, 0
        return TextBatch(pa.array(texts, pa.string()), position, passed_over=left_out)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._depth and name != "mediawiki":
            raise CorpusError(f"{self._path} is XML but no Wikipedia dump (it starts with <{name[:40]}>); leave it out")
        self._depth += 1
        if self._depth > DEEPEST:
            raise CorpusError(f"{self._path} has elements inside elements {DEEPEST} deep; it is no Wikipedia dump")
        if name == "page":
            self._namespace, self._text, self._redirect = "", "", False
        self._redirect = self._redirect or name == "redirect"
        self._reading, self._parts, self._size, self._attributes = name in _READ, [], 0, attributes

    def _characters(self, data: str) -> None:
        if not self._reading:
            return
        self._size += len(data)
        if self._size > LONGEST_DOCUMENT:
            raise CorpusError(f"{self._path} has a page of more than {LONGEST_DOCUMENT >> 20} MiB; it is no article")
        self._parts.append(data)

    def _end(self, name: str) -> None:
        self._depth -= 1
        read = "".join(self._parts)
        if name == "ns":
            self._namespace = read
        elif name == "text":
            self._text = read
        elif name == "namespace" and self._attributes.get("key") in FILE_NAMESPACES:
            self._passed_over.add(read.strip().lower())
        elif name == "page":
            self._finish_page()
        self._reading, self._parts = False, []

    def _finish_page(self) -> None:
        if self._namespace.strip() != "0" or self._redirect:
            self._left_out += 1
        else:
            self._articles.append(self._text)
        self._text = ""

    def _doctype(self, *_: object) -> None:
        raise CorpusError(f"{self._path} declares a document type, which no Wikipedia dump does; it is not read")


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
