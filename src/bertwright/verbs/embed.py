"""Turns texts into vectors with the model of any folder, a chunk at a time: memory does not grow with the input.

texts -> chunk -> vectors of a model, torch's or exported -> in order into the file
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal, overload

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
        opened.note_cut()
        return np.concatenate(vectors) if vectors else np.empty((0, opened.width), dtype=number)
    name = str(input) if isinstance(input, (str, Path)) else "the list given"
    count = None if input in ("-", STDIN) else announce(read(), Path(out), opened.width, number, name=name)
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
