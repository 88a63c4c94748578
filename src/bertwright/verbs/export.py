"""Turns a model folder into an ONNX folder that runs without torch, checked against torch before it takes its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import UsageError
from bertwright.files import human_bytes, map_os_errors, read_json, refuse_existing, write_json, written_aside
from bertwright.hub.onnx.exportable import Exportable, open_exportable
from bertwright.hub.onnx.onnx_folder import ABOUT, MODEL, SAME_EVERYWHERE, open_onnx, require
from bertwright.inference.batching import Forward
from bertwright.inference.evaluate_task import read_pairs_of_texts
from bertwright.inference.int8_cost import Evaluate, cost_table, losses_of, rows_a_second
from bertwright.inference.scoring import task_forward
from bertwright.log import Facts, Table
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.result import Result
from bertwright.tasks.by_name import task_of_head
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import evaluate_vectors
from bertwright.tasks.text_encoder import TextEncoder


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
        Hugging Face BERT or ModernBERT folder: pre-trained, fine-tuned, or of sentence vectors.
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
    require("onnx")
    from bertwright.hub.onnx.export_check import sample_rows, text_encoder, write_checked

    model, out = Path(model), Path(out)
    refuse_existing(out, instead="give another --out")
    opened = open_exportable(model)
    flags = {"text": text_column, "pair": pair_column, "label": label_column, "encoding": encoding}
    named = dict(columns or {}) | {name: column for name, column in flags.items() if column is not None}
    given = ColumnsConfig.model_validate(named)
    if data is None:
        rows, evaluate = sample_rows(opened), None
    else:
        rows, evaluate = _labelled_rows(opened, text_encoder(opened), Path(data), given)
    with map_os_errors(out.parent), written_aside(out) as folder:
        folder.mkdir()
        figures = write_checked(opened, rows, folder)
        figures, tables = _quantize(opened, folder, rows, evaluate) if quantize else (figures, [])
    facts = {
        "size": human_bytes((out / MODEL).stat().st_size),
        "outputs": ", ".join(figures["outputs"]),
        "largest difference from torch": f"{figures['checked']['largest_difference_from_torch']:.1e}",
    }
    return Result(figures, Facts(f"exported: {out}, which runs without torch", facts), *tables)


def _labelled_rows(
    opened: Exportable, encoder: TextEncoder, data: Path, columns: ColumnsConfig
) -> tuple[LabelledRows, Evaluate]:
    """Return the rows of a labelled file, and what scores the outputs for them."""
    if isinstance(opened.model, SentenceEncoder):
        pairs = read_pairs_of_texts(data, columns)
        rows = encoder.rows(pairs.texts, None, np.zeros(len(pairs.texts), dtype=np.int64))
        return rows, lambda vectors: evaluate_vectors(vectors, pairs)
    if not isinstance(opened.model, FineTuned):
        raise UsageError(f"{opened.folder} is no fine-tuned model, so --data has no labels it could be evaluated on")
    task = task_of_head(*(opened.about[name] for name in ("part", "problem", "labels", "own")))
    task = task.with_crf(opened.model.crf).with_columns(data, columns)
    encoded = task.encode(task.read(data), encoder)
    return encoded.rows, lambda logits: task.evaluate(logits, encoded.examples)


def _quantize(
    opened: Exportable, folder: Path, rows: LabelledRows, evaluate: Evaluate | None
) -> tuple[dict[str, Any], list[Table]]:
    """Put 8-bit integers in the place of the float graph; return onnx.json, and what that costs and brings."""
    from bertwright.hub.onnx.export_check import some_arrays
    from bertwright.hub.onnx.int8 import quantize_int8

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        kept = Path(scratch)
        for name in (MODEL, ABOUT):
            shutil.copyfile(folder / name, kept / name)
        before = open_onnx(kept)
        quantize_int8(kept / MODEL, folder / MODEL, [before.inputs(some_arrays(rows))])
        after = open_onnx(folder)
        sides: dict[str, Forward[np.ndarray]] = {"ONNX float32": before.logits, "ONNX int8": after.logits}
        if not isinstance(opened.model, Encoder):
            sides = {"torch float32": task_forward(opened.model, device=torch.device("cpu")), **sides}
        speeds = rows_a_second(sides, rows)
        losses = losses_of(before, after, rows, evaluate)
        sizes = [(one / MODEL).stat().st_size for one in (kept, folder)]
    about: dict[str, Any] = read_json(folder / ABOUT)
    about |= {"quantized": "int8", SAME_EVERYWHERE: True, "bytes": sizes, "rows_a_second": speeds, **losses}
    write_json(folder / ABOUT, about)
    return about, [cost_table(speeds, losses, sizes)]
