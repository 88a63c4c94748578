"""Turns texts into vectors with the model of any folder, a chunk at a time: memory does not grow with the input.

texts -> chunk -> vectors of a model, torch's or exported -> in order into the file

The work is in verbs/calls/embed_input.py, which is imported by a call: --help does not wait for readers and arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, overload

from bertwright.result import Result

if TYPE_CHECKING:
    import numpy as np


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
        Hugging Face folder of an encoder: pre-trained, fine-tuned, or of sentence-transformers. Or an ONNX
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
    from bertwright.verbs.calls.embed_input import embed_input

    return embed_input(
        Path(model), input, None if out is None else Path(out), layer=layer, pooling=pooling, normalize=normalize,
        text_column=text_column, encoding=encoding, precision=precision, number="float16" if float16 else "float32",
    )  # fmt: skip
