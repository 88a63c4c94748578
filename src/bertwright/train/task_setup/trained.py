"""Turns a trained model into a finished seed: its figures and mistakes on dev and test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from bertwright.errors import DivergedError
from bertwright.tasks.eval_result import EvalResult
from bertwright.train.state import Progress
from bertwright.train.task_setup.base import TaskSetup


@dataclass(frozen=True)
class TrainedRun:
    """A model after training, at its best evaluation, and how good it is.

    setup     with what of its task is set on dev, such as thresholds
    results   by split: dev, and test where there is one
    diverged  why training ended after the best evaluation, where it did so by an error
    """

    setup: TaskSetup
    seed: int
    model: nn.Module
    best_step: int
    progress: Progress
    results: Mapping[str, EvalResult]
    diverged: DivergedError | None = None


def evaluate_trained(
    setup: TaskSetup,
    model: nn.Module,
    *,
    seed: int,
    best_step: int,
    progress: Progress,
    diverged: DivergedError | None = None,
) -> TrainedRun:
    """Return a finished model evaluated on every split but train: on dev first, on which the task is tuned."""
    setup, dev = setup.tuned(model)
    others = {split: setup.evaluate(model, split) for split in setup.splits if split not in ("train", "dev")}
    return TrainedRun(setup, seed, model.eval(), best_step, progress, {"dev": dev, **others}, diverged)
