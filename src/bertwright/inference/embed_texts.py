"""Turns texts into a file of their vectors, a chunk at a time and in order: memory does not grow with the input."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bertwright.errors import CorpusError
from bertwright.files import human_bytes, require_space
from bertwright.hub.vector_files import Number, bytes_needed, writer_of
from bertwright.inference.embedder import Embedder
from bertwright.log import Facts, count_progress, note
from bertwright.result import Result

CHUNK_TEXTS = 8192
"""Texts sorted by length together, and rows of a Parquet row group."""
CHUNK_CHARACTERS = 16 << 20
"""Characters after which a chunk of long texts is full."""


def chunks(pieces: Iterable[Sequence[str]]) -> Iterator[list[str]]:
    """Yield the texts of pieces in chunks of CHUNK_TEXTS, or fewer where texts are long."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        begin = 0
        while begin < len(piece):
            part = piece[begin : begin + CHUNK_TEXTS - len(held)]
            held, begin, size = [*held, *part], begin + len(part), size + sum(map(len, part))
            if len(held) == CHUNK_TEXTS or size >= CHUNK_CHARACTERS:
                yield held
                held, size = [], 0
    if held:
        yield held


def announce(pieces: Iterable[Sequence[str]], out: Path, width: int, number: Number, *, name: str) -> int:
    """Read the input called `name` through once: return how many texts it has, and say what disk their vectors take.

    Raises CorpusError where there are none, and DiskSpaceError where the disk is too full.
    """
    count = size = 0
    for piece in pieces:
        count += len(piece)
        size += len("".join(piece).encode())
    if not count:
        raise CorpusError(f"{name} holds no texts; give a file that has some")
    needed = bytes_needed(out, count=count, width=width, number=number, text_bytes=size)
    note(f"{count:,} texts, a vector of {width} {number} each: up to {human_bytes(needed)} in {out}")
    require_space(out.parent, needed, what="the vectors")
    return count


def write_vectors(
    opened: Embedder, pieces: Iterable[Sequence[str]], out: Path, number: Number, *, count: int | None
) -> Result:
    """Write the vectors of the texts of `pieces` to `out` in order, with progress; return what was done."""
    began, total = time.perf_counter(), 0
    with count_progress("texts", total=count) as done, writer_of(out)(out, opened.width, number) as put:
        for chunk in chunks(pieces):
            put(chunk, opened.vectors(chunk, done))
            total += len(chunk)
        if not total:
            raise CorpusError("stdin holds no texts; give some")
    seconds = time.perf_counter() - began
    opened.note_cut()
    figures = {
        "texts": total,
        "width": opened.width,
        "number": number,
        "layer": opened.layer,
        "pooling": opened.pooling,
        "normalize": opened.normalize,
        "cut": opened.encoder.cut,
        "bytes": out.stat().st_size,
        "seconds": round(seconds, 2),
        "texts_per_second": round(total / seconds, 1),
    }
    facts = {
        name.replace("_", " "): f"{value:,}" if type(value) in (int, float) else str(value)
        for name, value in figures.items()
    }
    return Result(figures, Facts(f"vectors in {out}", facts))
