"""Turns teachers of a task and its files into a RUN folder with a student, its figures beside the teacher's."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from bertwright.config import write_toml
from bertwright.device import on_device
from bertwright.distillation.config import compose_distillation
from bertwright.distillation.distilled_task import DistilledSetup
from bertwright.distillation.task_inputs import DistillInputs, require_task, set_up_distilled
from bertwright.errors import TrainingError
from bertwright.files import remove, write_json
from bertwright.log import note
from bertwright.nested import merge, read_toml
from bertwright.reports.finetune_result import task_manifest, task_result, with_tables
from bertwright.reports.html_report import write_task_report
from bertwright.reports.quality_picture import draw_quality
from bertwright.result import Result
from bertwright.train.callbacks.track import require_tracker
from bertwright.train.checkpoint.task_resume import (
    Finished,
    delete_checkpoints,
    read_finished,
    require_same_run,
    resumed_settings,
    task_identity,
)
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.train.task_setup.seeds import train_seeds
from bertwright.verbs.calls.distilling.sides import Side, compare, kept_fraction, points, sides_table
from bertwright.verbs.calls.finetune_preview import predict_unlabelled, preview_task, warn_of_overlaps
from bertwright.verbs.calls.run_folder import TASK_FILES, held, require_free

SETTINGS, ANSWERS, PICTURE, INT8 = "distill.toml", "teacher", "quality.png", "int8"
DISTILL_FILES = (*TASK_FILES, SETTINGS, ANSWERS, PICTURE, INT8)
"""What the folder of a distilled task holds."""
DROPOUT = {"transfer": {"dropout": 0.0, "head_dropout": 0.0}}
"""A student learns from what a teacher answers to each row, of which there is no end: it has no use for dropout."""


@dataclass(frozen=True)
class RunCall:
    """How a run is called: its folder, and whether it goes on, replaces another, or is only looked at."""

    out: Path
    num_seeds: int = 1
    resume: bool = False
    overwrite: bool = False
    dry_run: bool = False
    int8: bool = False


def distill_task(task: str, inputs: DistillInputs, call: RunCall, settings: Mapping[str, Any]) -> Result:
    """Train a student of a task and write its RUN folder; return what result.json holds. `distill` says the rest."""
    require_task(task)
    out, seeds, files = call.out, call.num_seeds, dict(inputs.files)
    of_run = merge(DROPOUT, {name: value for name, value in settings.items() if name != "distill"})
    of_distillation: Mapping[str, Any] = settings.get("distill", {})
    if call.resume:
        of_run = resumed_settings(out, task, of_run, seeds=seeds)
        of_distillation = merge(read_toml(out / SETTINGS), of_distillation)
    config, distill = resolve_finetune(task, of_run), compose_distillation(of_distillation)
    require_tracker(config.watch.track)
    with nullcontext() if call.dry_run else held(out, locks=True), on_device(config.engine.device):
        needed = [*inputs.teachers, *inputs.texts, *files.values(), *([inputs.student] if inputs.student else [])]
        if not call.resume:
            require_free(out, needed, overwrite=call.overwrite, files=DISTILL_FILES)
        setup = set_up_distilled(config, distill, inputs)
        if call.dry_run:
            return preview_task(setup, out, seeds=seeds)
        overlaps = warn_of_overlaps(setup)
        identity = task_identity(setup, files) | setup.distillation_identity(inputs.texts)
        finished = Finished()
        if call.resume:
            require_same_run(out, identity)
            finished = read_finished(out, setup)
        if call.overwrite:
            require_free(out, needed, overwrite=True, clear=True, files=DISTILL_FILES)
        write_toml(out / "config.toml", setup.config)
        write_toml(out / SETTINGS, distill)
        manifest = {**task_manifest(setup, files, seeds=seeds), "overlaps": overlaps, "identity": identity}
        write_json(out / "manifest.json", manifest)
        setup = setup.with_answers(out / ANSWERS, identity)
        best = train_seeds(setup, out, seeds, first=None, finished=finished, identity=identity)
        best.model.projections = nn.ModuleList()  # they were for training alone
        figures = task_result(setup, files, best, finished.seed_results)
        figures |= {"examples_per_second": speed_of(figures, setup)}
        best.setup.save(best.model, out / "model", name=out.name, figures=figures)
        predict_unlabelled(best.setup, out, figures)
        sides = compare(setup, best, out, int8=out / INT8 if call.int8 else None, dev=files.get("dev"))
        figures |= finish(out, setup, sides, figures)
        write_task_report(out, best.results)
        delete_checkpoints(out)
        remove(out / ANSWERS)
        result = with_tables(figures, best.results)
        if best.diverged is not None:
            error = TrainingError(f"{best.diverged}; {out / 'model'} is that of step {best.best_step:,}, before that")
            error.result = result
            raise error
        return Result(result, *result.blocks, sides_table(sides, setup.metric))


def speed_of(figures: Mapping[str, Any], setup: DistilledSetup) -> float:
    """Return rows a second of training, those without labels counted."""
    train = setup.splits["train"]
    per_example: float = train.rows.row_count / len(train.examples)
    return round(float(figures["examples_per_second"]) * per_example, 1)


def finish(out: Path, setup: DistilledSetup, sides: Mapping[str, Side], figures: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the picture and write result.json; return what is added to its figures."""
    draw_quality(
        out / PICTURE, points(sides, setup.metric), figure=setup.metric, title=f"{setup.task.name}: {out.name}"
    )
    added = {
        "sides": {name: side.figures() for name, side in sides.items()},
        "kept": kept_fraction(sides, setup.metric),
    }
    write_json(out / "result.json", {**figures, **added})
    if "int8" not in sides:
        note(
            f"in 8-bit integers: bertwright export --model {out / 'model'} --to onnx --quantize int8 --out {out / INT8}"
        )
    return added
