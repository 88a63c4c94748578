"""The verb `export` at the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from bertwright.cli.command import prints
from bertwright.result import Result


@prints
def export_command(
    *,
    model: Path,
    to: Literal["onnx"] = "onnx",
    out: Path,
    quantize: Literal["int8"] | None = None,
    data: Path | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    encoding: str | None = None,
) -> Result:
    """Write a model in a form that other programs run, checked against torch before it is called done.

    For example:
        bertwright export --model runs/sentiment/model --to onnx --out sentiment-onnx
        bertwright export --model runs/sentiment/model --to onnx --out sentiment-int8 --quantize int8 --data dev.tsv
        bertwright predict --model sentiment-int8 --input reviews.txt --output answers.jsonl

    Parameters
    ----------
    model
        Hugging Face BERT or ModernBERT folder: pre-trained, fine-tuned, or of sentence vectors.
    to
        onnx: a graph for onnxruntime and others; `predict` and `embed` run it without torch.
    out
        Folder to write: model.onnx, onnx.json (inputs, outputs, labels), tokenizer.json, config.json.
    quantize
        int8: multiply 8-bit integers; the score lost and the speed won are shown.
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
    """
    from bertwright.verbs.export import export

    return export(
        model, out, to=to, quantize=quantize, data=data, text_column=text_column, pair_column=pair_column,
        label_column=label_column, encoding=encoding,
    )  # fmt: skip
