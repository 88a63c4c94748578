"""Turns a pre-trained teacher and a DATA folder into a RUN folder with a student of general use."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import tomli_w

from bertwright.config import write_toml
from bertwright.data.pretraining.dataset import Dataset
from bertwright.device import matmul_rate, on_device
from bertwright.distillation.config import DistillConfig
from bertwright.distillation.pretrain_setup import (
    DistilledPretraining,
    open_models,
    pretraining_identity,
    resolve_pretraining,
    set_up_pretraining,
)
from bertwright.distillation.task_inputs import DistillInputs
from bertwright.errors import ModelError, TrainingError, UsageError
from bertwright.files import free_space, human_bytes, require_space, write_json
from bertwright.hub.cards.model_cards import model_card
from bertwright.hub.encoder_folder import hf_tensors, save_model, write_folder
from bertwright.hub.mappings.known import mapping_of
from bertwright.hub.weights import WEIGHTS
from bertwright.log import Facts, Lines, note
from bertwright.model.encoder import parameter_count
from bertwright.nested import merge, read_toml
from bertwright.reports.curves import of_steps
from bertwright.reports.pretrain_result import run_manifest
from bertwright.result import Result
from bertwright.system import tune_malloc
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.console import ConsoleCallback
from bertwright.train.callbacks.diagnose import DiagnoseCallback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.evaluation import EvaluateCallback
from bertwright.train.callbacks.metrics_file import MetricsCallback, MetricsWindow, read_metrics
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.callbacks.track import require_tracker, tracking
from bertwright.train.checkpoint.folder import Retention, damaged, newest_whole, read_checkpoint
from bertwright.train.checkpoint.resume import run_identity
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import MISFITS, restore
from bertwright.train.diagnosis.task_check import diagnose_task
from bertwright.train.interval import Interval
from bertwright.train.loop import train
from bertwright.train.parallel.group import ALONE, launch_name
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.verbs.calls.distilling.task_distillation import DISTILL_FILES, SETTINGS, RunCall
from bertwright.verbs.calls.run_folder import held, open_checked, require_free

EVALUATIONS = 5
"""Held-out evaluations of a run, where not given."""
COPIES = 5
"""Numbers two checkpoints and the model take for each weight, at most: weights and two moments each, and the model."""


def distill_pretrain(data: Path, inputs: DistillInputs, call: RunCall, settings: Mapping[str, Any]) -> Result:
    """Train a student of general use and write its RUN folder; return what result.json holds. `distill` says more."""
    began, out, teacher = time.perf_counter(), call.out, inputs.teachers[0]
    if launch_name() is not None:
        raise UsageError("distill runs in one process; start it without torchrun")
    of_run = {name: value for name, value in settings.items() if name != "distill"}
    of_distillation: Mapping[str, Any] = settings.get("distill", {})
    if call.resume:
        if not (out / SETTINGS).is_file():
            raise ModelError(f"there is no run of distill to resume in {out}; start it without --resume")
        of_run = merge(read_toml(out / "config.toml"), of_run)
        of_distillation = merge(read_toml(out / SETTINGS), of_distillation)
    config = resolve_pretraining(of_run)
    require_tracker(config.engine.track)
    with nullcontext() if call.dry_run else held(out, locks=True), on_device(config.engine.device):
        needed = [data, teacher, *([inputs.student] if inputs.student else [])]
        if not call.resume:
            require_free(out, needed, overwrite=call.overwrite, files=DISTILL_FILES)
        dataset = open_checked([data], (), ALONE)
        checkpoint = newest_whole(out) if call.resume else None
        models = open_models(dataset, of_distillation, teacher_folder=teacher, student_folder=inputs.student)
        run = set_up_pretraining(dataset, config, models, fresh=checkpoint is None and not call.dry_run)
        distill = models.distill
        if call.dry_run:
            return preview(run, config, distill, out)
        identity = run_identity(dataset, config, precision=run.engine.precision)
        identity = pretraining_identity(identity, distill, teacher, inputs.student)
        if checkpoint is not None:
            go_on(run, checkpoint, identity)
        require_space(out, disk_needed(run), what="this run")
        if call.overwrite:
            require_free(out, needed, overwrite=True, clear=True, files=DISTILL_FILES)
        write_json(
            out / "manifest.json", {**run_manifest(dataset, config, run.student, run.engine), "teacher": str(teacher)}
        )
        write_toml(out / "config.toml", config)
        write_toml(out / SETTINGS, distill)
        train_run(run, config, out, identity=identity, began=began)
        return finish_run(run, config, distill, out, dataset=dataset, teacher=teacher)


def go_on(run: DistilledPretraining, checkpoint: Path, identity: Mapping[str, Any]) -> None:
    """Put a run where a checkpoint says that it stands."""
    saved, _ = read_checkpoint(checkpoint, identity=identity)
    try:
        restore(run.state, saved)
    except MISFITS as error:
        raise damaged(checkpoint, error) from error
    note(f"going on from step {run.state.progress.step:,} ({checkpoint})")


def disk_needed(run: DistilledPretraining) -> int:
    """Return about how many bytes a run writes."""
    return 4 * COPIES * 2 * parameter_count(run.state.model) + 20_000_000


def train_run(
    run: DistilledPretraining, config: PretrainConfig, out: Path, *, identity: Mapping[str, Any], began: float
) -> None:
    """Train to the end of the schedule, callbacks in place."""
    state, schedule, settings, window = run.state, config.schedule, config.engine, MetricsWindow()
    note(f"student: {parameter_count(run.student):,} parameters, {run.engine.precision} on {run.engine.device.type}")
    width, tokens = run.student.config.hidden_size, schedule.phases[0].rows * schedule.phases[0].length
    measure = partial(
        matmul_rate, tokens, width, run.student.config.widest_product, precision=run.engine.precision,
        device=run.engine.device, rounds=2,
    )  # fmt: skip
    peak = PeakCallback(measure, measure())
    every = None if settings.evaluate_every is None else Interval.parse(settings.evaluate_every)
    times = (settings.evaluations or EVALUATIONS) if run.held_out else 0
    saver = Saver(
        out, state, identity=identity, retention=Retention(newest=settings.keep), beside=[out / "metrics.jsonl"]
    )
    checkpoint = CheckpointCallback(saver, minutes=settings.checkpoint_minutes, steps=settings.checkpoint_steps)
    console, trackers = ConsoleCallback(), tracking(settings.track, out, config.model_dump(mode="json"))
    metrics = MetricsCallback(
        out / "metrics.jsonl", window, settings.log_every, [phase.length for phase in schedule.phases],
        config.optimizer, peak,
    )  # fmt: skip
    evaluate = EvaluateCallback(held_out=run.evaluate, samples=list, times=times, every=every)
    callbacks: list[Callback] = [window, evaluate, peak, DivergenceCallback(state.model, window)]
    diagnose = DiagnoseCallback(metrics.path, diagnose_task, says_normal=False)
    callbacks += [metrics, diagnose, console, *trackers, EndIfDiverged(), checkpoint]
    if not state.progress.step:
        state.progress.seconds = state.progress.setup_seconds = time.perf_counter() - began
        if state.progress.fraction(schedule) >= 1:
            raise TrainingError(f"all that comes before the first step took {state.progress.seconds:.0f} s; give more")
    try:
        with tune_malloc(), checkpoint.listening_for_signals():
            train(state, run.loader, run.objective, callbacks, engine=run.engine)
            saver.wait()
    finally:
        console.close()
        saver.close()
        for tracker in trackers:
            tracker.close()


def finish_run(
    run: DistilledPretraining, config: PretrainConfig, distill: DistillConfig, out: Path, *, dataset: Dataset,
    teacher: Path,
) -> Result:  # fmt: skip
    """Write the student's folder and result.json; return the figures."""
    lines, progress, student = read_metrics(out / "metrics.jsonl"), run.state.progress, run.student.eval()
    valid: dict[str, float] = next((line["valid"] for line in reversed(lines) if line.get("valid")), {})
    shape, made = student.config, of_steps(lines)
    figures: dict[str, Any] = {
        "steps": progress.step,
        "tokens": progress.tokens,
        "epochs": round(progress.epochs, 4),
        "seconds": round(progress.seconds, 1),
        "setup_seconds": round(progress.setup_seconds, 1),
        "loss": lines[-1]["loss"],
        "valid": valid,
        "tokens_per_second": median(line["tokens_per_second"] for line in made),
        "mfu": median(line["mfu"] for line in made),
        "parameters": parameter_count(student),
        "teacher": str(teacher),
        "student": {
            "layers": shape.layers, "width": shape.hidden_size, "heads": shape.heads, "blocks": list(run.taken)
        },
        "distillation": distill.model_dump(mode="json", exclude_none=True),
        "language": dataset.manifest["language"],
    }  # fmt: skip
    save_student(run, dataset.tokenizer.path.parent, out)
    write_json(out / "result.json", figures)
    shown = {f"held-out {name.replace('_', ' ')}": f"{value:.4f}" for name, value in valid.items()}
    shown["trained"] = f"{progress.step:,} steps, {progress.tokens:,} tokens, {progress.seconds / 60:.1f} minutes"
    shown["student"] = f"{shape.layers} layers, width {shape.hidden_size}, {figures['parameters']:,} parameters"
    return Result(figures, Facts(f"distilled: {out / 'model'}", shown))


def save_student(run: DistilledPretraining, tokenizer: Path, out: Path) -> None:
    """Write the folder of the student: with its head that predicts words, where it was trained, else a bare encoder."""
    student, card = run.student, model_card(out.name, {})
    if run.predicts_words:
        save_model(student, tokenizer, out / "model", card=card)
        return
    mapping = mapping_of(student.config)
    tensors = {name.removeprefix(mapping.prefix): one for name, one in hf_tensors(student, mapping).items()}
    settings = {"architectures": [mapping.bare]}
    write_folder(
        out / "model", student.config, load_tokenizer(tokenizer), tensors={WEIGHTS: tensors}, settings=settings,
        card=card,
    )  # fmt: skip


def preview(run: DistilledPretraining, config: PretrainConfig, distill: DistillConfig, out: Path) -> Result:
    """Return what a run would be: its settings, sizes and disk."""
    shape, schedule = run.student.config, config.schedule
    plan: dict[str, Any] = {
        "settings": {
            **config.model_dump(mode="json", exclude_none=True),
            "distill": distill.model_dump(mode="json", exclude_none=True),
        },
        "parameters": parameter_count(run.student),
        "teacher_parameters": parameter_count(run.loss.teacher),
        "precision": run.engine.precision,
        "device": str(run.engine.device),
        "disk_bytes": disk_needed(run),
        "free_bytes": free_space(out),
        "out": str(out),
    }
    facts = {
        "student": f"{shape.layers} layers, width {shape.hidden_size}, {shape.heads} heads, "
        f"{plan['parameters']:,} parameters",
        "teacher": f"{plan['teacher_parameters']:,} parameters; the student's blocks stand for its blocks "
        f"{', '.join(map(str, run.taken))}",
        "run": f"{schedule.amount:g} {schedule.unit} of {schedule.phases[0].rows} rows of {schedule.phases[0].length}",
        "disk": f"about {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
    }
    title = f"dry run: distill pretrain would write {out}"
    return Result(plan, Lines([tomli_w.dumps(plan["settings"])]), Facts(title, facts))
