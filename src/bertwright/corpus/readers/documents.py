"""Turns text files of any format into a stream of batches of documents, that can be taken up again at any batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bertwright.corpus.readers.formats import ReadOptions, format_of, is_table
from bertwright.corpus.readers.layouts import Layout, read_text_file
from bertwright.corpus.readers.remote import TextFile, size_of, total_size
from bertwright.corpus.readers.rows import TextBatch
from bertwright.corpus.readers.text_column import read_text_column
from bertwright.corpus.readers.wikipedia import read_wikipedia
from bertwright.errors import CorpusError

BATCH_BYTES = 4 << 20
MOST_HELD = 1 << 10
"""Small files gathered before they are copied into one array: an array object costs more than a short text."""


def read_documents(
    paths: Sequence[TextFile], options: ReadOptions, *, layout: Layout | None, skip: tuple[int, int] = (0, 0)
) -> Iterator[TextBatch]:
    """Yield the documents of `paths` in order, about 4 MB at a time, after document `skip[1]` of file `skip[0]`.

    A single longer document is a batch of its own. `layout` says where documents end in .txt files (`detect_layout`
    finds it; None where there are none). Memory stays bounded: files are streamed. The batches after a skip to a
    batch's place are those of an unbroken reading.
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
    done = total_size(paths[: skip[0]])
    for file in range(skip[0], len(paths)):
        last = None
        for batch in _after(skip[1] if file == skip[0] else 0, _read_file(paths[file], options, layout=layout)):
            if last is not None:
                yield last
            last = replace(batch, file=file, source_bytes_done=done + batch.source_bytes_done)
        done += size_of(paths[file])
        if last is not None:
            yield replace(last, file=file + 1, stop=0, source_bytes_done=done)


def _read_file(path: TextFile, options: ReadOptions, *, layout: Layout | None) -> Iterator[TextBatch]:
    kind = format_of(path)
    if kind is None:
        raise CorpusError(f"{path} is of no format that can be read; expected a text file")
    if kind == "wikipedia":
        return read_wikipedia(path)
    if is_table(path):
        return read_text_column(path, options)
    return read_text_file(path, options, layout="file" if kind == "md" else layout or "file")


def _after(already: int, batches: Iterator[TextBatch]) -> Iterator[TextBatch]:
    """Yield batches of at most BATCH_BYTES that hold documents, with the documents of the file up to their end.

    The first `already` documents are passed over. What was left out between two batches counts with the earlier one,
    so that a place between batches says all of what was left out before it.
    """
    stop = 0
    last: TextBatch | None = None
    for batch in chain.from_iterable(map(_sliced, batches)):
        if last is None or not len(batch.texts):
            last = batch if last is None else last.with_left_out(batch)
            continue
        if not len(last.texts):
            last = batch.with_left_out(last)
            continue
        stop += len(last.texts)
        if stop > already:
            yield replace(_tail(last, stop - already), stop=stop)
        last = batch
    if last is not None and (stop + len(last.texts) > already or already == 0):
        stop += len(last.texts)
        yield replace(_tail(last, stop - already), stop=stop)


def _sliced(batch: TextBatch) -> Iterator[TextBatch]:
    """Yield a batch in slices of at most BATCH_BYTES, or of one longer document."""
    ends = np.cumsum(pc.binary_length(batch.texts).to_numpy(zero_copy_only=False), dtype=np.int64)
    start = 0
    while start < len(ends) or start == 0:
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
        texts = batch.texts[start:stop]
        yield batch.without_left_out(texts) if start else replace(batch, texts=texts)
        start = stop


def _tail(batch: TextBatch, documents: int) -> TextBatch:
    """Return the last `documents` of a batch; what it left out was counted with the others before."""
    if documents >= len(batch.texts):
        return batch
    return batch.without_left_out(batch.texts[len(batch.texts) - documents :])
