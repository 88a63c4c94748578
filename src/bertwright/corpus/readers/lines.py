"""Turns a file, or stdin, into its texts in order, a piece at a time; an empty line is an empty text."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

from bertwright.corpus.readers.blocks import BLOCK_BYTES, ByteBlock, in_lines, read_blocks, read_text
from bertwright.corpus.readers.delimited import require_text
from bertwright.corpus.readers.encoding import check_encoding, decode_chunks
from bertwright.corpus.readers.table import refuse_missing
from bertwright.errors import CorpusError

STDIN = Path("-")


def read_lines(path: Path, encoding: str | None = None) -> list[str]:
    """Return the lines of a text file that hold something; raises CorpusError where it is missing or no text."""
    if not path.is_file():
        raise CorpusError(f"there is no file {path}; give a text file that exists")
    lines = [line.removesuffix("\r") for line in read_text(path, encoding).split("\n") if line.strip()]
    if not lines:
        raise CorpusError(f"{path} is empty; give a file with labelled examples")
    return lines


class LineStream:
    """The lines of a file or of stdin ("-"), empty ones too, at most `most` at a time.

    >>> list(LineStream(Path("news.txt"), most=2))  # needs a file  # doctest: +SKIP
    [['One.', ''], ['Three.']]
    """

    def __init__(self, path: Path, *, most: int | None = None, encoding: str | None = None) -> None:
        """Open nothing yet."""
        self.path, self.most, self.encoding = path, most, encoding
        self.progress: float | None = None
        """How much of the file has been given out, 0 to 1; None where nobody knows its size."""

    def __iter__(self) -> Iterator[list[str]]:
        """Yield lines without their ends; raises CorpusError where the file is missing or no text."""
        if self.path != STDIN:
            refuse_missing(self.path, alternative=", or - for stdin")
        size, before = 0 if self.path == STDIN else self.path.stat().st_size, 0
        is_stdin = self.path == STDIN
        blocks = _stdin(self.encoding) if is_stdin else read_blocks(self.path, self.encoding)
        for block in require_text(blocks, "stdin" if is_stdin else self.path):
            lines = [line.removesuffix("\r") for line in block.data.decode().removesuffix("\n").split("\n")]
            step = self.most or len(lines)
            for begin in range(0, len(lines), step):
                done = min(1.0, (begin + step) / len(lines))
                self.progress = (before + (block.position - before) * done) / size if size else None
                yield lines[begin : begin + step]
            before = block.position


def _stdin(encoding: str | None) -> Iterator[ByteBlock]:
    """Yield stdin as blocks of whole lines."""
    check_encoding(encoding)
    stdin = getattr(sys.stdin, "buffer", None) or io.BytesIO(sys.stdin.read().encode())  # a notebook's has no bytes
    chunks = iter(lambda: stdin.read(BLOCK_BYTES), b"")
    name = Path("stdin")
    return in_lines(((data, 0) for data in decode_chunks(chunks, name, encoding)), name)
