"""Does what a call of `finetune` does beside training seeds: a preview, folds, warnings of known texts, predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from bertwright.files import free_space, human_bytes, write_text
from bertwright.log import Facts, Lines, note
from bertwright.model.encoder import parameter_count
from bertwright.reports.finetune_result import task_result
from bertwright.reports.predictions import write_predictions
from bertwright.result import Result
from bertwright.tasks.examples import overlap_sentences, overlaps_of
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.folds import train_folds
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.trained import TrainedRun
from bertwright.train.task_setup.transfer import trained_count
from bertwright.verbs.calls.predict_stream import stream_predictions

COPIES = 5
"""Numbers a checkpoint and the model take for each weight: weights, two moments, the best ones, and the model."""


def preview_task(setup: TaskSetup, out: Path, *, seeds: int) -> Result:
    """Return what a run would be: its settings, model, examples, steps and disk."""
    model, schedule = setup.new_model(setup.config.seed), setup.loader(setup.config.seed).schedule
    trained = trained_count(model)
    examples = {name: len(split.examples) for name, split in setup.splits.items()}
    config = setup.config
    plan: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude_none=True),
        "parameters": parameter_count(model),
        "trained_parameters": trained,
        "examples": examples,
        "steps": schedule.steps,
        "seeds": seeds,
        "precision": setup.precision,
        "device": str(setup.device),
        "disk_bytes": 4 * COPIES * parameter_count(model) + 20_000_000,
        "free_bytes": free_space(out),
        "out": str(out),
    }
    facts = {
        "model": f"{setup.folder}: {plan['parameters']:,} parameters, {trained:,} of them trained",
        "examples": ", ".join(f"{count:,} {name}" for name, count in examples.items()),
        "run": f"{schedule.amount:,.0f} {schedule.unit} of up to {config.batches.rows} examples"
        f"{f', {seeds} times' if seeds > 1 else ''}"
        f"{f', and as often without one of {config.split.folds} folds' if config.split.folds else ''}",
        "learning rate": f"{config.optimizer.learning_rate:g}, warm-up {config.schedule.warmup:.0%}",
        "device": f"{setup.precision} on {setup.device}",
        "disk": f"about {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
    }
    title = f"dry run: finetune {setup.task.name} would write {out}"
    return Result(plan, Lines([tomli_w.dumps(plan["settings"])]), Facts(title, facts))


def cross_validate(
    setup: TaskSetup, out: Path, files: Mapping[str, Path], *, identity: Mapping[str, Any]
) -> tuple[TrainedRun, dict[str, Any]]:
    """Train the folds of a run and the model of all of them, write its suspects, and return model and figures."""
    assert isinstance(setup, HeadSetup)
    found = train_folds(setup, out, identity=identity)
    figures = task_result(setup, files, found.trained, found.folds)
    if setup.config.watch.suspects:
        file = out / "suspects.jsonl"
        write_text(file, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in found.suspects))
        figures["suspects"] = len(found.suspects)
        note(f"{len(found.suspects):,} labels are doubtful, the most doubtful first in {file}")
    return found.trained, figures


def warn_of_overlaps(setup: TaskSetup) -> dict[str, dict[str, int]]:
    """Note how many examples of dev and test are in train, or in one another, and return the counts."""
    examples = {name: split.examples for name, split in setup.splits.items()}
    overlaps = overlaps_of(examples)
    for sentence in overlap_sentences(overlaps, {name: len(part) for name, part in examples.items()}):
        note(f"warning: {sentence}")
    return overlaps


def predict_unlabelled(setup: TaskSetup, out: Path, figures: dict[str, Any]) -> None:
    """Write what the model of a run predicts of files without labels, and name the files in its figures."""
    for name, unlabelled in setup.unlabelled.items():
        file = out / f"{name}-predictions.jsonl"
        predictions, read = stream_predictions(
            out / "model",
            input=unlabelled.path,
            text_column=unlabelled.text,
            pair_column=unlabelled.pair,
            encoding=setup.config.columns.encoding,
        )
        count = write_predictions(predictions, file, file=read)
        figures[f"{name}_predictions"] = file.name
        note(
            f"{unlabelled.path} has no labels, so there are no figures of {name}: {count:,} predictions are in {file}; "
            f"for other files: bertwright predict --model {out / 'model'} --input FILE --output predictions.jsonl"
        )
