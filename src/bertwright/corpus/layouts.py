"""Turns .txt and .md files into documents: tells from a sample where a document ends, then cuts there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.inputs import (
    LONGEST_DOCUMENT,
    Block,
    Layout,
    ReadOptions,
    format_of,
    open_text,
    read_blocks,
    too_long,
)
from bertwright.corpus.remote import TextFile, size_of
from bertwright.corpus.sentences import tell_newlines
from bertwright.errors import CorpusError

LAYOUTS: dict[Layout, str] = {
    "blank": "each blank-line-separated block as a document",
    "file": "each file as a document",
    "line": "each line as a document",
}
SAMPLE_FILES = 16
SAMPLE_BYTES = 1 << 18
SMALL_FILE = 2_000_000
"""Bytes below which a text file among others is taken for one document: a long novel, as the largest of them."""
BLANK_LINES = r"\n(?:[ \t\r]*\n)+"


@dataclass(frozen=True)
class Piece:
    """Some documents of one file.

    broken       lines or files left out among them because they cannot be read
    position     bytes of the file read so far
    passed_over  pages of a Wikipedia dump left out among them, because they are no articles
    """

    texts: pa.StringArray
    broken: int
    position: int
    passed_over: int = 0


def describe_layout(paths: Sequence[TextFile], options: ReadOptions) -> Layout | None:
    """Return where documents end in the .txt files of `paths`: "blank", "file" or "line"; None where there are none.

    Told from the start of up to 16 files, unless `options.documents` says it. A file is a document where there are
    several files, half of them under 2 MB, or where a file is one hard-wrapped text whose blank lines are paragraphs.
    Otherwise a blank line ends a document where there are any, and a line is a document where there are none.
    """
    texts = [path for path in paths if format_of(path) == "txt"]
    if not texts:
        return None
    if options.documents != "auto":
        return options.documents
    picked = [texts[i] for i in sorted({i * len(texts) // SAMPLE_FILES for i in range(SAMPLE_FILES)})]
    samples = [_sample(path) for path in picked]
    if len(texts) > 1 and median(size for _, size in samples) < SMALL_FILE:
        return "file"
    if not any(re.search(BLANK_LINES, text.strip()) for text, _ in samples):
        return "line"
    small = max(size for _, size in samples) < LONGEST_DOCUMENT
    return "file" if small and all(tell_newlines([text]) == "wrapped" for text, _ in samples) else "blank"


def _sample(path: TextFile) -> tuple[str, int]:
    """Return the start of a file and about how many bytes it holds."""
    with open_text(path) as opened:
        start = opened.stream.read(SAMPLE_BYTES)
        ended = len(start) < SAMPLE_BYTES
        size = len(start) if ended else size_of(path) * (1 if opened.stream is opened.file else 3)
    text = start.decode("utf-16" if start[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n"), size


def read_text_file(path: TextFile, options: ReadOptions, *, layout: Layout) -> Iterator[Piece]:
    """Yield the documents of one .txt or .md file; blank documents are none.

    Bytes that are no UTF-8 text raise CorpusError naming the file and the byte, or, with `skip_broken`, their lines
    are left out and counted (the whole file, where a file is a document).
    """
    if layout == "file":
        yield from _whole_file(path, options)
        return
    rest, position, broken = "", 0, 0
    for block in read_blocks(path):
        data, left_out = _readable(block, path, options)
        text, position, broken = rest + data.decode().replace("\r\n", "\n"), block.position, broken + left_out
        texts = _split(text, layout)
        if layout == "blank":
            rest = texts[-1].as_py()
            texts = texts[:-1]
        if len(rest) > LONGEST_DOCUMENT:
            raise CorpusError(too_long(path))
        yield Piece(_not_blank(texts), broken, position)
        broken = 0
    if rest:
        yield Piece(_not_blank(pa.array([rest])), broken, position)


def _split(text: str, layout: Layout) -> pa.StringArray:
    whole = pa.array([text])
    split = pc.split_pattern_regex(whole, BLANK_LINES) if layout == "blank" else pc.split_pattern(whole, "\n")
    return split.flatten()


def _not_blank(texts: pa.StringArray) -> pa.StringArray:
    return texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts), ""))


def _whole_file(path: TextFile, options: ReadOptions) -> Iterator[Piece]:
    parts, size, position = [], 0, 0
    for block in read_blocks(path):
        data, left_out = _readable(block, path, options)
        if left_out:
            yield Piece(pa.array([], pa.string()), 1, size_of(path))
            return
        parts.append(data)
        size, position = size + len(data), block.position
        if size > LONGEST_DOCUMENT:
            raise CorpusError(too_long(path))
    yield Piece(_not_blank(pa.array([b"".join(parts).decode()])), 0, position)


def _readable(block: Block, path: TextFile, options: ReadOptions) -> tuple[bytes, int]:
    """Return the block without its lines that are no text, and how many those were."""
    fault = fault_in(block.data)
    if fault is None:
        return block.data, 0
    if not options.skip_broken:
        raise CorpusError(broken_bytes(path, block.offset + fault))
    lines = block.data.splitlines(keepends=True)
    kept = [line for line in lines if fault_in(line) is None]
    return b"".join(kept), len(lines) - len(kept)


def fault_in(data: bytes) -> int | None:
    """Return where `data` stops being UTF-8 text (a NUL byte is none), or None where all of it is."""
    nul = data.find(b"\0")
    text = pa.StringArray.from_buffers(1, pa.array([0, len(data)], pa.int32()).buffers()[1], pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return _first_undecodable(data) if nul < 0 else min(nul, _first_undecodable(data))
    return None if nul < 0 else nul


def first_fault(path: TextFile) -> int:
    """Return the first byte of a file where it stops being UTF-8 text, or its length."""
    end = 0
    for block in read_blocks(path):
        fault = fault_in(block.data)
        if fault is not None:
            return block.offset + fault
        end = block.offset + len(block.data)
    return end


def _first_undecodable(data: bytes) -> int:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.start
    return len(data)


def broken_bytes(path: TextFile, offset: int) -> str:
    """Return the sentence for a file that is not text."""
    return (
        f"{path} is not UTF-8 text (binary or of another encoding) at byte {offset:,}; "
        "convert it to UTF-8, or give --skip-broken to leave such lines out"
    )
