"""Turns .txt and .md files into documents: finds from the start of each file where a document ends, then cuts there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import median
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers import blocks
from bertwright.corpus.readers.blocks import ByteBlock, read_blocks, too_long
from bertwright.corpus.readers.encoding import AS_UTF8, fault_in, not_text
from bertwright.corpus.readers.formats import COMPRESSIONS, ReadOptions, format_of
from bertwright.corpus.readers.remote import TextFile, size_of
from bertwright.corpus.readers.rows import TextBatch
from bertwright.corpus.sentences import detect_newlines
from bertwright.errors import CorpusError

Layout = Literal["blank", "file", "line", "each"]
LAYOUTS: dict[Layout, str] = {
    "blank": "each blank-line-separated block as a document",
    "file": "each file as a document",
    "line": "each line as a document",
    "each": "the ends of documents found in each file by itself",
}
SAMPLE_FILES = 16
SAMPLE_BYTES = 1 << 18
SMALL_FILE = 2_000_000
"""Bytes below which a text file among others may be one document: a long novel, as the largest of them."""
PARTS_A_FILE = 4
"""Small files that are laid out alike are a document each where they have up to so many parts for each file there is:
a thousand articles of thirty paragraphs, but not two files of sixty documents."""
FEW_PARTS = 5
"""Where they are laid out differently, they are so with fewer parts yet."""
UNPACKED = 3
"""Bytes that a byte of a compressed file holds, about."""
BLANK_LINES = r"\n(?:[ \t\r]*\n)+"


@dataclass(frozen=True)
class _Sample:
    """What the start of a file shows: its own layout, about how many bytes and how many lines or blocks it holds."""

    layout: Layout
    size: int
    parts: int


def detect_layout(paths: Sequence[TextFile], options: ReadOptions) -> Layout | None:
    """Return where documents end in the .txt files of `paths`; None where there are none.

    It is found for each file by itself ("each", or what all of them have in common): a hard-wrapped text whose blank
    lines are paragraphs is one document; otherwise a blank line ends a document where there are any, and a line is a
    document where there are none. Of many small files with few paragraphs each a file is a document ("file").
    """
    texts = [path for path in paths if format_of(path) == "txt"]
    if not texts:
        return None
    if options.documents != "auto":
        return options.documents
    picked = [texts[i] for i in sorted({i * len(texts) // SAMPLE_FILES for i in range(SAMPLE_FILES)})]
    samples = [sample for path in picked if (sample := _sample(path, options)) is not None]
    kinds = {sample.layout for sample in samples}
    if len(samples) > 1 and _are_articles(samples, len(texts) - (len(picked) - len(samples))):
        return "file"
    return kinds.pop() if len(kinds) == 1 and (len(picked) == len(texts) or kinds == {"file"}) else "each"


def _are_articles(samples: list[_Sample], files: int) -> bool:
    """Return whether files are a document each: small ones, of few parts for so many files."""
    several = {sample.layout for sample in samples if sample.parts > 1 and sample.layout != "file"}
    parts = median(sample.parts for sample in samples if sample.layout != "file") if several else 1
    most = min(files, FEW_PARTS) if len(several) > 1 else PARTS_A_FILE * files
    return median(sample.size for sample in samples) < SMALL_FILE and parts <= most


def _sample(path: TextFile, options: ReadOptions) -> _Sample | None:
    """Return what the start of a file shows, None where there is nothing in it."""
    block = next(read_blocks(path, options.encoding), None)
    start = (block.data if block else b"")[:SAMPLE_BYTES]
    text = start.decode(errors="replace").replace("\r\n", "\n").strip()
    if not text:
        return None
    size = len(start) if len(start) < SAMPLE_BYTES else _unpacked(path)
    layout = layout_of_text(text, size=size)
    parts = text.count("\n") + 1 if layout == "line" else len(re.split(BLANK_LINES, text))
    return _Sample(layout, size, parts * max(1, size // len(start)))


def _unpacked(path: TextFile) -> int:
    return size_of(path) * (UNPACKED if path.suffix.lower() in COMPRESSIONS else 1)


def layout_of_text(start: str, *, size: int) -> Layout:
    """Return where documents end in a file of about `size` bytes, by its start alone."""
    if not re.search(BLANK_LINES, start.strip()):
        return "line"
    return "file" if size < blocks.LONGEST_DOCUMENT and detect_newlines([start]) == "wrapped" else "blank"


def read_text_file(path: TextFile, options: ReadOptions, *, layout: Layout) -> Iterator[TextBatch]:
    """Yield the documents of one .txt or .md file; blank documents are none.

    Bytes that are no UTF-8 text raise CorpusError naming the file and the byte, or, with `skip_broken`, their lines
    are left out and counted (the whole file, where a file is a document).
    """
    pieces = read_blocks(path, options.encoding)
    if layout == "each":
        first = next(pieces, None)
        if first is None:
            return
        start = first.data[:SAMPLE_BYTES].decode(errors="replace").replace("\r\n", "\n")
        size = len(first.data) if len(first.data) < SAMPLE_BYTES else _unpacked(path)
        layout, pieces = layout_of_text(start, size=size), chain([first], pieces)
    if layout == "file":
        yield from _whole_file(pieces, path, options)
        return
    rest, position, broken = "", 0, 0
    for block in pieces:
        data, left_out = _readable(block, path, options)
        text, position, broken = rest + data.decode().replace("\r\n", "\n"), block.position, broken + left_out
        texts = _split(text, layout)
        if layout == "blank":
            rest = texts[-1].as_py()
            texts = texts[:-1]
        if len(rest) > blocks.LONGEST_DOCUMENT:
            raise CorpusError(too_long(path))
        yield TextBatch(_not_blank(texts), position, broken)
        broken = 0
    if rest:
        yield TextBatch(_not_blank(pa.array([rest])), position, broken)


def _split(text: str, layout: Layout) -> pa.StringArray:
    whole = pa.array([text])
    split = pc.split_pattern_regex(whole, BLANK_LINES) if layout == "blank" else pc.split_pattern(whole, "\n")
    return split.flatten()


def _not_blank(texts: pa.StringArray) -> pa.StringArray:
    return texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts), ""))


def _whole_file(pieces: Iterator[ByteBlock], path: TextFile, options: ReadOptions) -> Iterator[TextBatch]:
    parts, size, position = [], 0, 0
    for block in pieces:
        data, left_out = _readable(block, path, options)
        if left_out:
            yield TextBatch(pa.array([], pa.string()), size_of(path), broken=1)
            return
        parts.append(data)
        size, position = size + len(data), block.position
        if size > blocks.LONGEST_DOCUMENT:
            raise CorpusError(too_long(path))
    yield TextBatch(_not_blank(pa.array([b"".join(parts).decode()])), position)


def _readable(block: ByteBlock, path: TextFile, options: ReadOptions) -> tuple[bytes, int]:
    """Return the block without its lines that are no text, and how many those were."""
    fault = fault_in(block.data)
    if fault is None:
        return block.data, 0
    if not options.skip_broken:
        wrong = not_text(path, block.data, fault, offset=block.offset)
        raise CorpusError(f"{wrong}; {AS_UTF8}, or give --skip-broken to leave such lines out")
    lines = block.data.splitlines(keepends=True)
    kept = [line for line in lines if fault_in(line) is None]
    return b"".join(kept), len(lines) - len(kept)
