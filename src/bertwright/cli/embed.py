"""The verb `embed`: turns its words into a call of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter


def embed_command(
    *,
    model: Path,
    input: Annotated[Path, Parameter(allow_leading_hyphen=True)],
    out: Path,
    layer: Annotated[int | None, Parameter(allow_leading_hyphen=True)] = None,
    pooling: Literal["mean", "cls", "max"] | None = None,
    text_column: str | None = None,
    encoding: str | None = None,
    normalize: bool | None = None,
    float16: Annotated[bool, Parameter(negative="")] = False,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Turn texts into vectors.

    Example:
        bertwright embed --model runs/sentences/model --input texts.txt --out vectors.npy
        bertwright embed --model runs/en/model --input reviews.tsv --text-column review --layer -2 --out vectors.parquet

    The n-th vector is that of the n-th row, empty lines included. Memory does not grow with the input.

    Parameters
    ----------
    model
        Hugging Face BERT or ModernBERT folder: pre-trained, fine-tuned, or of sentence-transformers. Or an ONNX
        folder of `bertwright export`, which needs no torch; its layer, pooling and unit length are fixed.
    input
        .txt (a text a line), .tsv, .csv, .jsonl or .parquet, the first four also .gz or .zst; - for lines of stdin.
    out
        .parquet (a row a text: text, vector) or .npy (the vectors alone).
    layer
        Which hidden states: 0 for the embeddings, then one a block, negative from the end; the last where not given.
    pooling
        Mean of the tokens, the first one ([CLS]), or the largest value of each unit; as a sentence-transformers folder
        says where not given, mean elsewhere.
    text_column
        Column of a table to read; told by its name (text, sentence ...) where not given.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is found and said.
    normalize
        Vectors of unit length; as a sentence-transformers folder says where not given, as they come elsewhere.
    float16
        Write numbers of 2 bytes instead of 4.
    precision
        fp32, or bf16: faster where the hardware multiplies it, and off by about a hundredth of a vector's length.
    """
    from bertwright.verbs.embed import embed

    embed(
        model,
        input,
        out,
        layer=layer,
        pooling=pooling,
        normalize=normalize,
        text_column=text_column,
        encoding=encoding,
        precision=precision,
        float16=float16,
    )
