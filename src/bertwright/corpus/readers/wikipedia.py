"""Turns a Wikipedia dump (pages-articles .xml, .xml.bz2, .xml.zst ...) into documents: an article each, as prose.

The dump streams through expat a megabyte at a time, so that memory holds one page, whatever the dump's size. Pages of
other namespaces than the articles' and redirects are passed over and counted. A dump declares no document type; one
that does could define entities that unfold to gigabytes, and is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from xml.parsers import expat

import pyarrow as pa

from bertwright.corpus.readers.blocks import LONGEST_DOCUMENT, open_text
from bertwright.corpus.readers.layouts import Piece
from bertwright.corpus.readers.remote import TextFile
from bertwright.corpus.readers.wikitext import FILES_AND_CATEGORIES, plain_text
from bertwright.errors import CorpusError

CHUNK = 1 << 20
LONGEST_TAG = 16 << 20
"""Bytes of one tag or other mark: expat holds it whole, and before 2.6 reads it anew with each chunk."""
DEEPEST = 32
"""Elements inside elements; a dump has five."""
FILE_NAMESPACES = ("-2", "6", "14")
"""Media, File and Category: links there are pictures and lists, not words of the page; each wiki names them anew."""
_READ = ("ns", "text", "namespace")


def read_wikipedia(path: TextFile) -> Iterator[Piece]:
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

    def fed(self, chunk: bytes, position: int) -> Piece:
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
        return Piece(pa.array(texts, pa.string()), 0, position, passed_over=left_out)

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
