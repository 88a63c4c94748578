"""Turns a model folder into an ONNX folder: written, checked against torch, and in 8-bit integers where wanted."""

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
from bertwright.log import Block, Facts, ResultTable
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.result import Result
from bertwright.tasks.by_name import task_of_head
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import evaluate_vectors

CALIBRATION = 64
"""Rows on which the range of values is measured before they are rounded."""


def export_onnx(
    model: Path, out: Path, *, quantize: Literal["int8"] | None, data: Path | None, columns: Mapping[str, str]
) -> Result:
    """Return what onnx.json of the folder `out` holds, and tables of it; see `export`."""
    require("onnx")
    from bertwright.hub.onnx.export_check import sample_rows, write_checked

    refuse_existing(out, instead="give another --out")
    opened = open_exportable(model)
    if data is None:
        rows, evaluate = sample_rows(opened), None
    else:
        rows, evaluate = _labelled_rows(opened, data, ColumnsConfig.model_validate(columns))
    with map_os_errors(out.parent), written_aside(out) as folder:
        folder.mkdir()
        figures = write_checked(opened, rows, folder)
        blocks: list[Block] = []
        if quantize:
            figures, table = _quantize(opened, folder, rows, evaluate)
            blocks.append(table)
    facts = {
        "size": human_bytes((out / MODEL).stat().st_size),
        "outputs": ", ".join(figures["outputs"]),
        "largest difference from torch": f"{figures['checked']['largest_difference_from_torch']:.1e}",
    }
    return Result(figures, Facts(f"exported: {out}, which runs without torch", facts), *blocks)


def _labelled_rows(opened: Exportable, data: Path, columns: ColumnsConfig) -> tuple[LabelledRows, Evaluate]:
    """Return the rows of a labelled file, and what scores the outputs for them."""
    from bertwright.hub.onnx.export_check import text_encoder

    if isinstance(opened.model, SentenceEncoder):
        pairs = read_pairs_of_texts(data, columns)
        rows = text_encoder(opened).rows(pairs.texts, None, np.zeros(len(pairs.texts), dtype=np.int64))
        return rows, lambda vectors: evaluate_vectors(vectors, pairs)
    if not isinstance(opened.model, FineTuned):
        raise UsageError(f"{opened.folder} is no fine-tuned model, so --data has no labels it could be evaluated on")
    task = task_of_head(*(opened.about[name] for name in ("part", "problem", "labels", "own")))
    task = task.with_crf(opened.model.crf).with_columns(data, columns)
    encoded = task.encode(task.read(data), text_encoder(opened))
    return encoded.rows, lambda logits: task.evaluate(logits, encoded.examples)


def _quantize(
    opened: Exportable, folder: Path, rows: LabelledRows, evaluate: Evaluate | None
) -> tuple[dict[str, Any], ResultTable]:
    """Put 8-bit integers in the place of the float graph; return onnx.json, and what that costs and brings."""
    from bertwright.hub.onnx.int8 import quantize_int8

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        kept = Path(scratch)
        for name in (MODEL, ABOUT):
            shutil.copyfile(folder / name, kept / name)
        before = open_onnx(kept)
        chosen = np.linspace(0, len(rows) - 1, min(CALIBRATION, len(rows))).astype(np.int64)
        quantize_int8(kept / MODEL, folder / MODEL, [before.inputs(rows.arrays(chosen))])
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
    return about, cost_table(speeds, losses, sizes)
