"""Turns texts into vectors with the model of any folder, a chunk at a time: memory does not grow with the input.

texts -> chunk -> vectors of a model, torch's or exported -> in order into the file
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.corpus.readers.lines import STDIN
from bertwright.errors import CorpusError, UsageError
from bertwright.files import human_bytes, map_os_errors, refuse_existing, require_space
from bertwright.hub.vector_files import Number, bytes_needed, writer_of
from bertwright.inference.embedder import Done, Embedder, open_embedder
from bertwright.log import note, person_reads, print_facts, progress_bar
from bertwright.tasks.stream import stream_texts
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.model.sentence_encoder import Pooling

CHUNK_TEXTS = 8192
"""Texts sorted by length together, and rows of a Parquet row group."""
CHUNK_CHARACTERS = 16 << 20
"""Characters after which a chunk of long texts is full."""
PLAIN_EVERY = 30.0
"""Seconds between two lines of progress where there is no terminal."""


@overload
def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: None = None,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["bf16", "fp32"] = "fp32",
    float16: bool = False,
) -> np.ndarray: ...


@overload
def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: Path | str,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["bf16", "fp32"] = "fp32",
    float16: bool = False,
) -> dict[str, Any]: ...


def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: Path | str | None = None,
    *,
    layer: int | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["bf16", "fp32"] = "fp32",
    float16: bool = False,
) -> np.ndarray | dict[str, Any]:
    """Return vectors [N, H] of the texts of a file or list; with `out`, write them there and return what was done.

    `input` is a file (see `stream_texts`), "-" for stdin, or a list of texts. `layer` counts blocks: 0 is the
    embeddings, -1 or None the last. `pooling` and `normalize` are those of a sentence-transformers folder where not
    given, mean and as they come elsewhere; an exported model has those alone that it was exported with. `out` ends in
    .parquet (text and vector) or .npy. `float16` rounds what is written; `precision` "bf16" computes faster where the
    hardware has it, and less exactly. Raises UsageError, InputError, OutputExistsError and DiskSpaceError, all before
    the first text is embedded.

    >>> embed("runs/en/model", ["A text.", "Another one."], pooling="mean").shape  # needs a model  # doctest: +SKIP
    (2, 256)
    """
    number: Number = "float16" if float16 else "float32"
    if out is not None:
        writer_of(Path(out))
        refuse_existing(Path(out), instead="give another --out")
    read = reader_of(input, text_column, encoding)
    opened = open_embedder(Path(model), layer=layer, pooling=pooling, normalize=normalize, precision=precision)
    if out is None:
        parts = [opened.vectors(chunk).astype(number) for chunk in chunks(read())]
        _say_cut(opened)
        return np.concatenate(parts) if parts else np.empty((0, opened.width), dtype=number)
    name = str(input) if isinstance(input, (str, Path)) else "the list given"
    count = None if input in ("-", STDIN) else announced(read(), Path(out), opened.width, number, name=name)
    with map_os_errors(Path(out).parent):
        facts = write_vectors(opened, read(), Path(out), number, count=count)
    print_facts(f"vectors in {out}", {name.replace("_", " "): _shown(value) for name, value in facts.items()})
    return facts


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


def announced(pieces: Iterable[Sequence[str]], out: Path, width: int, number: Number, *, name: str) -> int:
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
    note(f"{count:,} texts, a vector of {width} {number} each: {human_bytes(needed)} in {out}")
    require_space(out.parent, needed, what="the vectors")
    return count


def write_vectors(
    opened: Embedder, pieces: Iterable[Sequence[str]], out: Path, number: Number, *, count: int | None
) -> dict[str, Any]:
    """Write the vectors of the texts of `pieces` to `out` in order, with progress; return what was done."""
    began, total = time.perf_counter(), 0
    with progress(count) as done, writer_of(out)(out, opened.width, number) as put:
        for chunk in chunks(pieces):
            put(chunk, opened.vectors(chunk, done))
            total += len(chunk)
        if not total:
            raise CorpusError("stdin holds no texts; give some")
    seconds = time.perf_counter() - began
    _say_cut(opened)
    return {
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


@contextmanager
def progress(count: int | None) -> Iterator[Done]:
    """Yield what hears of texts done: shown on a terminal as a bar with time left, elsewhere as a line now and then."""
    began = said = time.perf_counter()
    total = 0
    with progress_bar() as bar:
        task = bar.add_task("embedding", total=count)

        def done(texts: int) -> None:
            nonlocal said, total
            total += texts
            bar.advance(task, texts)
            now = time.perf_counter()
            if not person_reads() and now - said > PLAIN_EVERY:
                said, speed = now, total / (now - began)
                left = "" if count is None else f", {(count - total) / speed / 60:.1f} min left"
                note(f"{total:,} texts, {speed:,.0f} a second{left}")

        yield done


def _say_cut(opened: Embedder) -> None:
    if opened.encoder.cut:
        note(f"{opened.encoder.cut:,} texts are longer than {opened.encoder.max_length} tokens and were cut")


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
