"""Turns a model folder into an ONNX folder that runs without torch, checked against torch before it takes its place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import UsageError
from bertwright.files import human_bytes, map_os_errors, read_json, refuse_existing, write_json, written_aside
from bertwright.hub.onnx.exportable import Exportable, open_exportable
from bertwright.hub.onnx.onnx_folder import ABOUT, MODEL, SAME_EVERYWHERE, open_onnx, require
from bertwright.inference.batching import Predictor
from bertwright.inference.embed_predictor import read_judged
from bertwright.inference.int8_cost import Evaluate, losses_of, rows_a_second
from bertwright.inference.scoring import ask_model
from bertwright.log import note, print_table
from bertwright.model.encoder import Encoder
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import judge_sentences
from bertwright.tasks.trained import task_of_head

CALIBRATION = 64
"""Rows on which the range of values is measured before they are rounded."""


def export(
    model: Path,
    out: Path,
    *,
    to: Literal["onnx"] = "onnx",
    quantize: Literal["int8"] | None = None,
    data: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Write the model of a Hugging Face folder as ONNX to the folder `out`, whole or not at all; return the figures.

    The graph must give what torch gives, on real rows in batches of several sizes and lengths. With `quantize` it
    multiplies 8-bit integers; a table then shows what that costs: in the task's figures on `data`, a labelled file (for
    sentence vectors pairs or scored pairs), and in answers that change. Raises ModelError where the graph differs,
    OutputExistsError, and UsageError where onnx is not installed.
    """
    if to != "onnx":
        raise UsageError(f"there is no way to export to {to!r}; give --to onnx")
    require("onnx")
    from bertwright.hub.onnx.export_check import sample_rows, write_checked

    model, out = Path(model), Path(out)
    refuse_existing(out, instead="give another --out")
    opened = open_exportable(model)
    if data is None:
        rows, evaluate = sample_rows(opened), None
    else:
        rows, evaluate = _labelled_rows(opened, Path(data), ColumnsConfig.model_validate(columns or {}))
    with map_os_errors(out.parent), written_aside(out) as folder:
        folder.mkdir()
        figures = write_checked(opened, rows, folder)
        if quantize:
            figures |= _quantize(opened, folder, rows, evaluate)
    note(f"{out}: {human_bytes((out / MODEL).stat().st_size)}, {', '.join(figures['outputs'])}; runs without torch")
    return figures


def _labelled_rows(opened: Exportable, data: Path, columns: ColumnsConfig) -> tuple[LabelledRows, Evaluate]:
    """Return the rows of a labelled file, and what scores the outputs for them."""
    from bertwright.hub.onnx.export_check import text_encoder

    if isinstance(opened.model, SentenceEncoder):
        pairs = read_judged(data, columns)
        rows = text_encoder(opened).rows(pairs.texts, None, np.zeros(len(pairs.texts), dtype=np.int64))
        return rows, lambda vectors: judge_sentences(vectors, pairs)
    if not isinstance(opened.model, FineTuned):
        raise UsageError(f"{opened.folder} is no fine-tuned model, so --data has no labels it could be evaluated on")
    task = task_of_head(*(opened.about[name] for name in ("part", "problem", "labels", "own")))
    task = task.with_crf(opened.model).with_columns(data, columns)
    examples = task.read(data)
    return task.encode(examples, text_encoder(opened)), lambda logits: task.judge(logits, examples)


def _quantize(opened: Exportable, folder: Path, rows: LabelledRows, evaluate: Evaluate | None) -> dict[str, Any]:
    """Put 8-bit integers in the place of the float graph, and print what that costs and brings."""
    from bertwright.hub.onnx.int8 import quantize_int8

    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        kept = Path(scratch)
        for name in (MODEL, ABOUT):
            shutil.copyfile(folder / name, kept / name)
        before = open_onnx(kept)
        chosen = np.linspace(0, len(rows) - 1, min(CALIBRATION, len(rows))).astype(np.int64)
        quantize_int8(kept / MODEL, folder / MODEL, [before.inputs(rows.arrays(chosen))])
        after = open_onnx(folder)
        sides: dict[str, Predictor[np.ndarray]] = {"ONNX float32": before.logits, "ONNX int8": after.logits}
        if not isinstance(opened.model, Encoder):
            sides = {"torch float32": ask_model(opened.model, device=torch.device("cpu")), **sides}
        speeds = rows_a_second(sides, rows)
        losses = losses_of(before, after, rows, evaluate)
        sizes = [(one / MODEL).stat().st_size for one in (kept, folder)]
    about: dict[str, Any] = read_json(folder / ABOUT)
    about |= {"quantized": "int8", SAME_EVERYWHERE: True, "bytes": sizes, "rows_a_second": speeds, **losses}
    write_json(folder / ABOUT, about)
    _print_cost(speeds, losses, sizes)
    return about


def _print_cost(speeds: dict[str, float], losses: dict[str, Any], sizes: Sequence[int]) -> None:
    """Print a row a figure, float32 beside int8."""
    figures: dict[str, dict[str, float]] = losses.get("figures", {"float32": {}})
    rows = [
        [name.replace("_", " "), *(f"{figures[kind][name]:.4f}" for kind in ("float32", "int8"))]
        for name in figures["float32"]
    ]
    if "agreement" in losses:
        rows.append(["answers that agree", "", f"{losses['agreement']:.2%}"])
    if "mean_cosine" in losses:
        rows.append(["mean cosine with float32", "", f"{losses['mean_cosine']:.4f}"])
    if "largest_change" in losses:
        rows.append(["largest change of a logit", "", f"{losses['largest_change']:.3f}"])
    rows.append(["rows a second", f"{speeds['ONNX float32']:,.0f}", f"{speeds['ONNX int8']:,.0f}"])
    if "torch float32" in speeds:
        times = [speeds[f"ONNX {kind}"] / speeds["torch float32"] for kind in ("float32", "int8")]
        rows.append(["times torch in float32", *(f"{value:.2f}" for value in times)])
    rows.append(["size of the file", *(human_bytes(size) for size in sizes)])
    print_table("8-bit integers", ["", "float32", "int8"], rows)
