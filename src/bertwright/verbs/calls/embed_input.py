"""Turns texts, a file or a list, into vectors in memory or in a file: the work of `embed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.corpus.readers.lines import STDIN
from bertwright.errors import UsageError
from bertwright.files import map_os_errors, refuse_existing
from bertwright.hub.vector_files import Number, writer_of
from bertwright.inference.embed_texts import announce, chunks, write_vectors
from bertwright.inference.embedder import open_embedder
from bertwright.result import Result
from bertwright.tasks.stream import stream_texts
from bertwright.types import listed


def embed_input(
    model: Path,
    input: Path | str | Sequence[str],
    out: Path | None,
    *,
    layer: int | None,
    pooling: Literal["mean", "cls", "max"] | None,
    normalize: bool | None,
    text_column: str | None,
    encoding: str | None,
    precision: Literal["fp32", "bf16"],
    number: Number,
) -> np.ndarray | Result:
    """Return the vectors [N, H], or where they are written to `out` their count and how they were made; see `embed`."""
    if out is not None:
        writer_of(out)
        refuse_existing(out, instead="give another --out")
    read = reader_of(input, text_column, encoding)
    opened = open_embedder(model, layer=layer, pooling=pooling, normalize=normalize, precision=precision)
    if out is None:
        vectors = [opened.vectors(chunk).astype(number) for chunk in chunks(read())]
        opened.note_cut()
        return np.concatenate(vectors) if vectors else np.empty((0, opened.width), dtype=number)
    name = str(input) if isinstance(input, (str, Path)) else "the list given"
    count = None if input in ("-", STDIN) else announce(read(), out, opened.width, number, name=name)
    with map_os_errors(out.parent):
        return write_vectors(opened, read(), out, number, count=count)


def reader_of(
    input: Path | str | Sequence[str], column: str | None, encoding: str | None = None
) -> Callable[[], Iterator[Sequence[str]]]:
    """Return what reads the input from its start, a piece at a time."""
    if isinstance(input, (str, Path)):
        return lambda: stream_texts(Path(input), column, encoding)
    if column is not None:
        raise UsageError("a list of texts has no columns; leave text_column out")
    texts = [replace_surrogates(text) for text in listed(input)]
    return lambda: iter([texts])
