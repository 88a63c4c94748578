"""Turns ONNX folders in float32 and in 8-bit integers into what rounding costs in answers, and brings in speed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.files import human_bytes
from bertwright.hub.onnx.onnx_folder import OnnxFolder
from bertwright.inference.batching import Forward, cpu_policy, in_batches, logits_of
from bertwright.log import ResultTable
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.embedding.metrics import cosines
from bertwright.tasks.eval_result import EvalResult

TIMED = 512
"""Rows the speed is measured on, best of three turns."""

Evaluate = Callable[[np.ndarray], EvalResult]
"""Scores the outputs for all rows of a labelled file: logits [Q, outputs], or vectors [N, H]."""


def rows_a_second(sides: dict[str, Forward[Any]], rows: LabelledRows, *, turns: int = 3) -> dict[str, float]:
    """Return rows a second of each side over some of the rows, best of several turns, the sides taking turns."""
    places = np.linspace(0, len(rows) - 1, min(TIMED, len(rows))).astype(np.int64)
    best = dict.fromkeys(sides, 0.0)
    for _ in range(turns):
        for name, predict in sides.items():
            began = time.perf_counter()
            for _ in in_batches(predict, rows, policy=cpu_policy(), places=places):
                pass
            best[name] = max(best[name], len(places) / (time.perf_counter() - began))
    return {name: round(value, 1) for name, value in best.items()}


def losses_of(before: OnnxFolder, after: OnnxFolder, rows: LabelledRows, evaluate: Evaluate | None) -> dict[str, Any]:
    """Return the figures on labelled examples before and after, and how far the outputs are still the same."""
    if before.head_type is None:  # the likeliest words alone: logits of a vocabulary are many
        words = [logits_of(_likeliest(one.logits), rows, policy=cpu_policy()) for one in (before, after)]
        return {"agreement": float((words[0] == words[1]).mean())}
    old, new = (logits_of(one.logits, rows, policy=cpu_policy()) for one in (before, after))
    found: dict[str, Any] = {}
    if evaluate is not None:
        found["figures"] = {name: evaluate(logits).figures for name, logits in (("float32", old), ("int8", new))}
    if before.head_type == "vector":
        return found | {"mean_cosine": float(cosines(old, new).mean())}
    if before.head_type == "row" and before.problem == "multi_label_classification":
        cuts = MultiLabel.from_labels(before.labels, before.extra_config).cuts
        return found | {"agreement": float(((old > cuts) == (new > cuts)).all(-1).mean())}
    if before.head_type == "token" or (before.head_type == "row" and before.problem != "regression"):
        return found | {"agreement": float((old.argmax(-1) == new.argmax(-1)).mean())}
    return found | {"largest_change": float(np.abs(old - new).max())}


def _likeliest(predict: Forward[np.ndarray]) -> Forward[np.ndarray]:
    return lambda arrays: predict(arrays).argmax(-1)[..., None].astype(np.float32)


def cost_table(speeds: dict[str, float], losses: dict[str, Any], sizes: Sequence[int]) -> ResultTable:
    """Return a table with a row a figure, float32 beside int8; `sizes` are the bytes of both graphs."""
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
    return ResultTable("8-bit integers", ["", "float32", "int8"], rows)
