"""Turns a model folder into one that runs without torch, checked against torch before it takes its place."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.result import Result


@with_flags("export")
def export(
    model: Path | str,
    out: Path | str,
    *,
    to: Literal["onnx"] = "onnx",
    quantize: Literal["int8"] | None = None,
    data: Path | str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
    columns: Mapping[str, str] | None = None,
) -> Result:
    """Write a model in a form that other programs run, checked against torch before it is called done.

    The graph must give what torch gives, on real rows in batches of several sizes and lengths. The folder is there
    whole or not at all; what onnx.json holds is returned.

    Parameters
    ----------
    model
        Hugging Face folder of an encoder: pre-trained, fine-tuned, or of sentence vectors.
    out
        Folder to write: model.onnx, onnx.json (inputs, outputs, labels), tokenizer.json, config.json.
    to
        onnx: a graph for onnxruntime and others; `predict` and `embed` run it without torch.
    quantize
        int8: multiply 8-bit integers; a table shows what that costs, in the figures of the task on `data` and in
        answers that change, and the speed it brings.
    data
        Labelled file to check and evaluate on, such as the dev file, for sentence vectors pairs or scored pairs;
        sentences of ours where not given.
    text_column
        Column of the text in the labelled file; found by its name where not given.
    pair_column
        Column of the second text of a pair.
    label_column
        Column of the label, score or tag.
    encoding
        Encoding of the files, such as gb18030 or cp1252; where not given, one other than UTF-8 is detected and
        reported.
    columns
        The four before this under the names of the settings: text, pair, label, encoding.

    Raises
    ------
    ModelError
        Where the graph differs from torch; OutputExistsError; UsageError where onnx is not installed.
    """
    if to != "onnx":
        raise UsageError(f"there is no way to export to {to!r}; give --to onnx")
    flags = {"text": text_column, "pair": pair_column, "label": label_column, "encoding": encoding}
    given = dict(columns or {}) | {name: column for name, column in flags.items() if column is not None}
    from bertwright.verbs.calls.onnx_export import export_onnx

    return export_onnx(
        Path(model), Path(out), quantize=quantize, data=None if data is None else Path(data), columns=given
    )
