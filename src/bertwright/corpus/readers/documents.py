"""Turns text files of any format into a stream of batches of documents, that can be taken up again at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers.formats import ReadOptions, format_of, is_table
from bertwright.corpus.readers.layouts import Layout, TextPiece, read_text_file
from bertwright.corpus.readers.remote import TextFile, size_of, total_size
from bertwright.corpus.readers.text_column import read_text_column
from bertwright.corpus.readers.wikipedia import read_wikipedia
from bertwright.errors import CorpusError

BATCH_BYTES = 4 << 20
MOST_HELD = 1 << 10
"""Small files gathered before they are copied into one array: an array object costs more than a short text."""


@dataclass(frozen=True)
class TextBatch:
    """About 4 MB of documents in the order of the files; a single longer document is a batch of its own.

    texts              [D] the documents, none null
    file, stop         the place reached: `stop` documents of file number `file` (files counted from 0) are read;
                       a finished file counts as (file + 1, 0). Reading with skip=(file, stop) goes on from here
    broken             lines or files left out since the batch before (with `skip_broken`)
    passed_over        pages of a Wikipedia dump that are no articles, since the batch before
    source_bytes_done  bytes of the (compressed) files read so far, against `source_bytes(paths)`
    """

    texts: pa.StringArray
    file: int
    stop: int
    broken: int
    source_bytes_done: int
    passed_over: int = 0


def source_bytes(paths: Sequence[TextFile]) -> int:
    """Return the bytes of the files on disk, as they are (compressed)."""
    return total_size(paths)


def read_documents(
    paths: Sequence[TextFile], options: ReadOptions, *, layout: Layout | None, skip: tuple[int, int] = (0, 0)
) -> Iterator[TextBatch]:
    """Yield the documents of `paths` in order, starting after document `skip[1]` of file `skip[0]`.

    `layout` says where documents end in .txt files (`describe_layout` tells it; None where there are none). Memory
    stays bounded: files are streamed. The batches after a skip to a batch's place are those of an unbroken reading.
    """
    held: list[TextBatch] = []
    size = 0
    for step in _steps(paths, options, layout=layout, skip=skip):
        if held and size + step.texts.nbytes > BATCH_BYTES:
            yield _joined(held)
            held, size = [], 0
        held.append(step)
        size += step.texts.nbytes
        if len(held) == MOST_HELD:
            held = [_joined(held)]
    if held:
        yield _joined(held)


def _joined(batches: list[TextBatch]) -> TextBatch:
    """Return several batches in a row as one."""
    texts = pa.concat_arrays([batch.texts for batch in batches])
    broken, passed_over = sum(batch.broken for batch in batches), sum(batch.passed_over for batch in batches)
    return replace(batches[-1], texts=texts, broken=broken, passed_over=passed_over)


def _steps(
    paths: Sequence[TextFile], options: ReadOptions, *, layout: Layout | None, skip: tuple[int, int]
) -> Iterator[TextBatch]:
    """Yield documents in steps of at most BATCH_BYTES, each within one file; the last step of a file ends it."""
    done = source_bytes(paths[: skip[0]])
    for file in range(skip[0], len(paths)):
        already = skip[1] if file == skip[0] else 0
        last = None
        for piece, stop in _pieces_after(already, _read_file(paths[file], options, layout=layout)):
            if last is not None:
                yield last
            last = TextBatch(piece.texts, file, stop, piece.broken, done + piece.position, piece.passed_over)
        done += size_of(paths[file])
        if last is not None:
            yield replace(last, file=file + 1, stop=0, source_bytes_done=done)


def _read_file(path: TextFile, options: ReadOptions, *, layout: Layout | None) -> Iterator[TextPiece]:
    kind = format_of(path)
    if kind is None:
        raise CorpusError(f"{path} is of no format that can be read; expected a text file")
    if kind == "wikipedia":
        return read_wikipedia(path)
    if is_table(path):
        return read_text_column(path, options)
    return read_text_file(path, options, layout="file" if kind == "md" else layout or "file")


def _pieces_after(already: int, pieces: Iterator[TextPiece]) -> Iterator[tuple[TextPiece, int]]:
    """Yield pieces of at most BATCH_BYTES that hold documents, and the documents read up to their end.

    The first `already` documents are passed over. What was left out between two pieces counts with the earlier one,
    so that a place between pieces says all of what was left out before it.
    """
    stop = 0
    last: TextPiece | None = None
    for piece in chain.from_iterable(map(_sliced, pieces)):
        if last is None or not len(piece.texts):
            last = piece if last is None else _with_left_out(last, piece)
            continue
        if not len(last.texts):
            last = _with_left_out(piece, last)
            continue
        stop += len(last.texts)
        if stop > already:
            yield _tail(last, stop - already), stop
        last = piece
    if last is not None and (stop + len(last.texts) > already or already == 0):
        stop += len(last.texts)
        yield _tail(last, stop - already), stop


def _with_left_out(piece: TextPiece, other: TextPiece) -> TextPiece:
    """Return a piece that counts what another left out as well."""
    return replace(piece, broken=piece.broken + other.broken, passed_over=piece.passed_over + other.passed_over)


def _sliced(piece: TextPiece) -> Iterator[TextPiece]:
    """Yield a piece in slices of at most BATCH_BYTES, or of one longer document."""
    ends = np.cumsum(pc.binary_length(piece.texts).to_numpy(zero_copy_only=False), dtype=np.int64)
    start = 0
    while start < len(ends) or start == 0:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        part = replace(piece, texts=piece.texts[start:stop])
        yield part if start == 0 else replace(part, broken=0, passed_over=0)
        start = stop


def _tail(piece: TextPiece, documents: int) -> TextPiece:
    """Return the last `documents` of a piece; what it left out was counted with the others before."""
    if documents >= len(piece.texts):
        return piece
    return replace(piece, texts=piece.texts[len(piece.texts) - documents :], broken=0, passed_over=0)
