"""Trains a model for each fold of a training file, evaluated on that fold, and then one on all of it: cross-validation.

A fold is trained to the end of its schedule and evaluated once: nothing is chosen by it. So its figures are those of
texts that the model knows nothing of, and the model of all examples is trained in the same way.

RUN/folds/K/            metrics of fold K
RUN/checkpoints/folds/  what the folds that are done have predicted, for --resume
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bertwright.errors import ModelError, TrainingError
from bertwright.files import read_json, write_json, written_aside
from bertwright.log import note
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import fold_places
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.checkpoint.task_resume import delete_checkpoints
from bertwright.train.task_setup.by_task import with_examples
from bertwright.train.task_setup.head_setup import HeadSetup
from bertwright.train.task_setup.seeds import run_seed
from bertwright.train.task_setup.trained import TrainedRun


@dataclass(frozen=True)
class FoldResult:
    """How good the model of a fold is on it: figures, and logits [Q, outputs] of its examples."""

    figures: dict[str, float]
    logits: np.ndarray


@dataclass(frozen=True)
class CrossValidated:
    """What the folds of a training file have given.

    trained   the model of all examples; its results on "dev" are those of all folds together
    folds     figures of each fold, as `task_result` takes those of seeds
    suspects  examples whose label is doubtful, most doubtful first, where they were asked for
    """

    trained: TrainedRun
    folds: list[dict[str, Any]]
    suspects: list[dict[str, Any]]


def train_folds(setup: HeadSetup, out: Path, *, identity: Mapping[str, Any]) -> CrossValidated:
    """Train each fold that is not done, then a model of all examples, and return what they give."""
    peak = PeakCallback(partial(setup.peak_flops, rounds=2), setup.peak_flops())
    examples, count = setup.splits["train"].examples, int(setup.config.split.folds or 0)
    places = fold_places(examples, count)
    results = [
        _fold(setup, out, fold, places=places, peak=peak, identity={**identity, "fold": fold}) for fold in range(count)
    ]
    seed = setup.config.seed
    note(f"training on all {len(examples):,} examples")
    model = setup.new_model(seed)
    run = run_seed(setup, model, out, seed=seed, peak=peak, identity=identity)
    if run.diverged is not None:
        raise TrainingError(f"the model of all examples: {run.diverged}") from run.diverged
    together = with_examples(setup, {"dev": examples.take(np.concatenate(places))})
    tuned, dev = _together(together, results)
    others = {name: tuned.evaluate(model, name) for name in setup.splits if name != "train"}
    trained = TrainedRun(
        replace(setup, task=tuned.task), seed, model.eval(), run.progress.step, run.progress, {"dev": dev, **others}
    )
    suspects = _suspects(tuned, results, places) if setup.config.watch.suspects else []
    return CrossValidated(trained, [{"fold": n, "dev": one.figures} for n, one in enumerate(results)], suspects)


def _fold(
    setup: HeadSetup,
    out: Path,
    fold: int,
    *,
    places: Sequence[np.ndarray],
    peak: PeakCallback,
    identity: Mapping[str, Any],
) -> FoldResult:
    """Return what a fold gives: as it was kept, or by training on all others."""
    kept = out / "checkpoints" / "folds" / str(fold)
    if kept.is_dir():
        return _read_fold(kept)
    rest = np.concatenate([held for other, held in enumerate(places) if other != fold])
    examples = setup.splits["train"].examples
    one = with_examples(setup, {"train": examples.take(np.sort(rest)), "dev": examples.take(places[fold])})
    folder = out / "folds" / str(fold)
    folder.mkdir(parents=True, exist_ok=True)
    model = one.new_model(setup.config.seed)
    run = run_seed(one, model, folder, seed=setup.config.seed, peak=peak, identity=identity)
    if run.diverged is not None:
        raise TrainingError(f"fold {fold}: {run.diverged}") from run.diverged
    logits = one.logits(model, "dev")
    figures = one.task.with_crf(model.crf).evaluate(logits, one.splits["dev"].examples).figures
    note(f"fold {fold + 1} of {len(places)}: {setup.metric} {figures[setup.metric]:.4f}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(kept) as aside:
        aside.mkdir()
        np.save(aside / "logits.npy", logits)
        write_json(aside / "figures.json", figures)
    delete_checkpoints(folder)
    return FoldResult(figures, logits)


def _read_fold(folder: Path) -> FoldResult:
    """Return what a fold that is done has given; raises ModelError where its folder is damaged."""
    try:
        logits = np.lib.format.open_memmap(folder / "logits.npy", mode="r")
        return FoldResult(read_json(folder / "figures.json"), logits)
    except (OSError, ValueError, EOFError) as error:
        raise ModelError(f"{folder} is damaged ({error}); delete it to train its fold again") from error


def _together(setup: HeadSetup, results: Sequence[FoldResult]) -> tuple[HeadSetup, EvalResult]:
    """Return the setup tuned on what all folds have predicted of its split "dev", and how good that is.

    With a CRF, each fold has one of its own: the figures are then the means over folds.
    """
    if setup.config.head.crf:
        return setup, EvalResult({name: mean(one.figures[name] for one in results) for name in results[0].figures})
    return setup.tuned_by(np.concatenate([one.logits for one in results]))


def _suspects(setup: HeadSetup, results: Sequence[FoldResult], places: Sequence[np.ndarray]) -> list[dict[str, Any]]:
    """Return doubtful examples, each with its row in the training file, from 1 without the header."""
    logits, rows = np.concatenate([one.logits for one in results]), np.concatenate(places)
    found = setup.task.suspects(logits, setup.splits["dev"].examples)
    return [{"row": int(rows[place]) + 1, **fields} for place, fields in found]
