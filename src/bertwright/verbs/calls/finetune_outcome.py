"""Turns the setup of a fine-tuning run into what its folder holds beside a model: folds, overlaps, predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.files import write_text
from bertwright.log import note
from bertwright.reports.finetune_result import task_result
from bertwright.reports.predictions import write_predictions
from bertwright.tasks.examples import overlap_sentences, overlaps_of
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.folds import train_folds
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.trained import TrainedRun
from bertwright.verbs.calls.predict_stream import stream_predictions


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
