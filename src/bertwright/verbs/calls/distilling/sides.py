"""Turns teachers, a student, and the student in 8-bit integers into their figures, sizes and speeds, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.distillation.distilled_task import DistilledSetup
from bertwright.distillation.teachers import Teacher, ask
from bertwright.files import remove
from bertwright.hub.onnx.onnx_folder import MODEL, OnnxFolder, open_onnx
from bertwright.hub.task_folder import read_fine_tuned
from bertwright.inference.batching import Forward, cpu_policy, logits_of
from bertwright.inference.int8_cost import rows_a_second
from bertwright.inference.predictors import task_of
from bertwright.inference.scoring import task_forward
from bertwright.log import ResultTable, note
from bertwright.model.encoder import parameter_count
from bertwright.model.task_model import FineTuned
from bertwright.reports.quality_picture import Point
from bertwright.tasks.base import Task
from bertwright.tasks.metrics import sign_of
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.train.task_setup.trained import TrainedRun
from bertwright.verbs.calls.onnx_export import export_onnx

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Side:
    """A model: its figures by split, the bytes of its weights, and rows of dev that it answers a second on this CPU."""

    splits: Mapping[str, Mapping[str, float]]
    bytes: int
    rows_a_second: float

    def figures(self) -> dict[str, Any]:
        """Return what result.json holds of it."""
        return {**self.splits, "bytes": self.bytes, "rows_a_second": self.rows_a_second}


def compare(
    setup: DistilledSetup, best: TrainedRun, out: Path, *, int8: Path | None, dev: Path | None
) -> dict[str, Side]:
    """Return the teachers, the student in RUN/model, and with a folder for `int8` its export, by name.

    Speeds are measured in float32 on dev, the models taking turns.
    """
    student, splits = best.model.to(CPU), [name for name in setup.splits if name != "train"]
    assert isinstance(student, FineTuned)
    names = ["teacher"] if len(setup.teachers) == 1 else [f"teacher {n + 1}" for n in range(len(setup.teachers))]
    figures: dict[str, dict[str, Any]] = {}
    sizes: dict[str, int] = {}
    forwards: dict[str, Forward[np.ndarray]] = {}
    own: dict[str, float] = {}
    for name, teacher in zip(names, setup.teachers, strict=True):
        model = teacher.opened.model.to(CPU)
        figures[name] = of_teacher(setup, teacher, splits)
        sizes[name], forward = 4 * parameter_count(model), task_forward(model, device=CPU)
        if teacher.same_tokens:
            forwards[name] = forward
        else:
            encoder = TextEncoder(teacher.tokenizer, max_length=teacher.max_length)
            rows = setup.task.encode(setup.splits["dev"].examples, encoder).rows
            own |= rows_a_second({name: forward}, rows)
    figures["student"] = {split: dict(best.results[split].figures) for split in splits}
    sizes["student"], forwards["student"] = 4 * parameter_count(student), task_forward(student, device=CPU)
    if int8 is not None:
        opened = exported(setup, out / "model", int8, dev)
        task = task_of(read_fine_tuned(out / "model"))  # its logits are divided by the temperature already
        figures["int8"] = {split: of_export(best, task, opened, split) for split in splits}
        sizes["int8"], forwards["int8"] = (int8 / MODEL).stat().st_size, opened.logits
    speeds = rows_a_second(forwards, setup.splits["dev"].rows) | own
    return {name: Side(figures[name], sizes[name], speeds[name]) for name in figures}


def of_teacher(setup: DistilledSetup, teacher: Teacher, splits: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return the figures of a teacher on each split; thresholds and temperature are tuned on dev, as the student's."""
    chosen = {split: setup.splits[split] for split in splits}
    logits = {
        split: ask(
            teacher, setup.task, [one.examples], one.rows, max_length=setup.config.batches.max_length, device=CPU,
            cast=nullcontext,
        )
        for split, one in chosen.items()
    }  # fmt: skip
    task = setup.task.tuned(logits["dev"], chosen["dev"].examples)
    return {split: dict(task.evaluate(logits[split], one.examples).figures) for split, one in chosen.items()}


def exported(setup: DistilledSetup, model: Path, out: Path, dev: Path | None) -> OnnxFolder:
    """Return the student exported to `out` in 8-bit integers, whose range is measured on dev, where it is a file."""
    remove(out)  # that of a run which was stopped here
    columns = {name: value for name, value in setup.config.columns.model_dump().items() if isinstance(value, str)}
    export_onnx(model, out, quantize="int8", data=dev, columns=columns if dev is not None else {})
    return open_onnx(out)


def of_export(best: TrainedRun, task: Task[Any], opened: OnnxFolder, split: str) -> dict[str, float]:
    """Return the figures of an exported student on a split, by the task of its folder."""
    chosen = best.setup.splits[split]
    logits = logits_of(opened.logits, chosen.rows, policy=cpu_policy())
    return dict(task.evaluate(logits, chosen.examples).figures)


def last_split(sides: Mapping[str, Side]) -> str:
    """Return the split that models are compared on: test where there is one, else dev."""
    return "test" if "test" in next(iter(sides.values())).splits else "dev"


def kept_fraction(sides: Mapping[str, Side], metric: str) -> dict[str, float]:
    """Return how the student compares with the first teacher, by name: the metric's quotient, and times the speed."""
    teacher, split = next(iter(sides.values())), last_split(sides)
    found: dict[str, float] = {}
    for name in ("student", "int8"):
        if name in sides:
            ours, theirs = (side.splits[split][metric] for side in (sides[name], teacher))
            found[f"{name}_{metric}"] = round(ours / theirs, 4) if theirs else 0.0
            found[f"{name}_speed"] = round(sides[name].rows_a_second / teacher.rows_a_second, 2)
    if sign_of(metric) < 0:
        note(f"{metric} is better where it is lower: below 1 the student is better than the teacher")
    return found


def points(sides: Mapping[str, Side], metric: str) -> list[Point]:
    """Return the models as a picture shows them."""
    split = last_split(sides)
    return [
        Point(name, side.splits[split][metric], 1000 / side.rows_a_second, side.bytes) for name, side in sides.items()
    ]


def sides_table(sides: Mapping[str, Side], metric: str) -> ResultTable:
    """Return a table with a row a model: its metric on each split, speed, and the size of its weights."""
    teacher = next(iter(sides.values()))
    rows = [
        [
            name,
            *(f"{figures[metric]:.4f}" for figures in side.splits.values()),
            f"{side.rows_a_second:,.0f}",
            f"{side.rows_a_second / teacher.rows_a_second:.2f}",
            f"{side.bytes / 1e6:,.1f} MB",
        ]
        for name, side in sides.items()
    ]
    header = ["model", *(f"{metric}, {split}" for split in teacher.splits), "rows a second", "times", "weights"]
    return ResultTable("teacher and student", header, rows)
