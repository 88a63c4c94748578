"""Turns texts into vectors with the model of any folder, a chunk at a time: memory does not grow with the input.

texts -> chunk -> vectors of a model, torch's or exported -> in order into the file
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from bertwright.corpus.readers.characters import replace_surrogates
from bertwright.corpus.readers.lines import STDIN
from bertwright.errors import CorpusError, UsageError
from bertwright.files import human_bytes, map_os_errors, refuse_existing, require_space
from bertwright.hub.vector_files import Number, bytes_needed, writer_of
from bertwright.inference.embedder import Embedder, open_embedder
from bertwright.log import Facts, count_progress, note
from bertwright.result import Result
from bertwright.tasks.stream import stream_texts
from bertwright.types import listed

CHUNK_TEXTS = 8192
"""Texts sorted by length together, and rows of a Parquet row group."""
CHUNK_CHARACTERS = 16 << 20
"""Characters after which a chunk of long texts is full."""


@overload
def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: None = None,
    *,
    layer: int | None = None,
    pooling: Literal["mean", "cls", "max"] | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    float16: bool = False,
) -> np.ndarray: ...


@overload
def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: Path | str,
    *,
    layer: int | None = None,
    pooling: Literal["mean", "cls", "max"] | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    float16: bool = False,
) -> Result: ...


def embed(
    model: Path | str,
    input: Path | str | Sequence[str],
    out: Path | str | None = None,
    *,
    layer: int | None = None,
    pooling: Literal["mean", "cls", "max"] | None = None,
    normalize: bool | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    float16: bool = False,
) -> np.ndarray | Result:
    """Turn texts into vectors.

    Returns the vectors, float32 [N, H] of N texts; with `out`, writes them there and returns how many there are, how
    they were made and how fast. The n-th vector is that of the n-th row, empty lines included. Memory does not grow
    with what is written.

    Parameters
    ----------
    model
        Hugging Face BERT or ModernBERT folder: pre-trained, fine-tuned, or of sentence-transformers. Or an ONNX
        folder of `bertwright export`, which needs no torch; its layer, pooling and unit length are fixed.
    input
        .txt (a text a line), .tsv, .csv, .jsonl or .parquet, the first four also .gz or .zst; - for lines of stdin. In
        Python also a list of texts.
    out
        .parquet (a row a text: text, vector) or .npy (the vectors alone).
    layer
        Which hidden states: 0 for the embeddings, then one a block, negative from the end; the last where not given.
    pooling
        Mean of the tokens, the first one ([CLS]), or the largest value of each unit; as a sentence-transformers folder
        says where not given, mean elsewhere.
    normalize
        Vectors of unit length; as a sentence-transformers folder says where not given, as they come elsewhere.
    text_column
        Column of a table to read; found by its name (text, sentence ...) where not given.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    precision
        fp32, or bf16: faster where the hardware multiplies it, and off by about a hundredth of a vector's length.
    float16
        Write numbers of 2 bytes instead of 4.

    Raises
    ------
    UsageError, InputError, OutputExistsError, DiskSpaceError
        All before the first text is embedded.

    Examples
    --------
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
        vectors = [opened.vectors(chunk).astype(number) for chunk in chunks(read())]
        _note_cut(opened)
        return np.concatenate(vectors) if vectors else np.empty((0, opened.width), dtype=number)
    name = str(input) if isinstance(input, (str, Path)) else "the list given"
    count = None if input in ("-", STDIN) else announced(read(), Path(out), opened.width, number, name=name)
    with map_os_errors(Path(out).parent):
        return write_vectors(opened, read(), Path(out), number, count=count)


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
    _note_cut(opened)
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
    facts = {name.replace("_", " "): _cell(value) for name, value in figures.items()}
    return Result(figures, Facts(f"vectors in {out}", facts))


def _note_cut(opened: Embedder) -> None:
    if opened.encoder.cut:
        note(f"{opened.encoder.cut:,} texts are longer than {opened.encoder.max_length} tokens and were cut")


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
