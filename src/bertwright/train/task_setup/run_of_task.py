"""Says what the recipe `finetune` asks of the parts of a run: the same of a head over an encoder and of a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

from bertwright.device import autocast, product_dtype
from bertwright.errors import DivergedError
from bertwright.model.config import ModelConfig
from bertwright.model.layers.dropout import begin_at_row, follow_rows
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.tokenizer.load import Tokenizer
from bertwright.train.callbacks.base import Callback
from bertwright.train.loader import TaskLoader
from bertwright.train.micro_batches import MicroBatches, endless_room, room_for
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine
from bertwright.train.task_setup.finetune_config import FinetuneConfig


@dataclass(frozen=True)
class Split:
    """The examples of a file, and their rows, as the task has them."""

    examples: Any
    rows: Any


@dataclass(frozen=True)
class Tuning(ABC):
    """What all seeds of a fine-tuning run share, and how a seed becomes a trained and judged model."""

    config: FinetuneConfig
    folder: Path
    shape: ModelConfig
    """Of the pre-trained model."""
    tokenizer: Tokenizer
    task: Any
    """Has a name, a metric that chooses the checkpoint, all its metrics, and the labels of its head, if any."""
    splits: dict[str, Split]
    """By name: train, dev, and test where there is one."""
    device: torch.device
    precision: Literal["bf16", "fp32"]
    unlabelled: Mapping[str, UnlabelledFile] = field(default_factory=dict, kw_only=True)
    """Files without labels, by the name of their split."""

    def optimizers(self, model: nn.Module, *, rates: Mapping[str, float] | None = None) -> list[torch.optim.Optimizer]:
        """Return the optimizers of a model, at `rates` (see `build_optimizers`), in the precision of the run."""
        return build_optimizers(model, self.config.optimizer, dtype=product_dtype(self.precision), rates=rates)

    def engine(self, seed: int) -> Engine:
        """Return how the steps of a seed are computed."""
        return Engine(
            device=self.device, seed=seed, clip_norm=self.config.optimizer.clip_norm, precision=self.precision
        )

    def split_batches(
        self, engine: Engine, model: nn.Module, objective: Any, row_bytes: Callable[[int], int], lengths: np.ndarray,
        *, each: int = 1,
    ) -> None:  # fmt: skip
        """Have batches split as the settings say, and, on a CPU, those that keep more in memory than there is room for.

        `row_bytes` is what a row of so many tokens keeps, `lengths` those of all rows, of which an example has `each`.
        Raises TrainingError where one row does not fit.
        """
        batches, fewest = self.config.batches, self.config.engine.accumulation
        room: Callable[[int], int] = endless_room
        if self.device.type == "cpu":
            room = room_for(model, row_bytes, longest=int(lengths.max()), what=f"training {self.folder}")
        if fewest > 1 or any(
            min(batches.rows * each, max(each, batches.tokens // length)) * row_bytes(length) > room(length)
            for length in np.unique(lengths).tolist()
        ):
            engine.micro_batches = MicroBatches(model, objective, self.cast, row_bytes, room, fewest)
            engine.begin_at_row = begin_at_row
            follow_rows(model)

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context forward passes run in."""
        return autocast(self.precision, self.device)

    def files_read(self, files: Mapping[str, Path]) -> Mapping[str, Path]:
        """Return by name every file that what a call names stands for."""
        return files

    def facts(self) -> dict[str, Any]:
        """Return what result.json says of runs of this kind alone."""
        return {}

    @abstractmethod
    def fresh_model(self, seed: int) -> Any:
        """Return the pre-trained model with what the task adds to it drawn from `seed`."""

    @abstractmethod
    def begin(self, model: Any, seed: int) -> tuple[TrainState, Any, Engine]:
        """Return the state of a run at its beginning, its objective, and how its steps are computed."""

    @abstractmethod
    def batches(self, seed: int) -> TaskLoader:
        """Return the batches of a seed; the schedule is as many steps as they make."""

    def callbacks(self, model: Any) -> list[Callback]:
        """Return what else a run of this kind needs after each step."""
        return []

    @abstractmethod
    def peak_flops(self, *, stretches: int = 6) -> float:
        """Return the measured rate of this machine on the largest block product of a typical step."""

    @abstractmethod
    def judge_along(self, model: Any) -> dict[str, float]:
        """Return the figures of a model on dev while it trains, in the precision it trains in."""

    @abstractmethod
    def judge(self, model: Any, split: str) -> EvalResult:
        """Judge a finished model on a split in float32, as whoever loads it will find it, with its worst mistakes."""

    def settled(self, dev: EvalResult) -> Self:
        """Return the parts with what is set by looking at the judgement on dev; nothing, as a rule."""
        return self

    @abstractmethod
    def save(self, model: Any, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the model folder `out` of a run called `name`, its card made from the figures of result.json."""


@dataclass(frozen=True)
class TrainedRun:
    """A model after training, at its best evaluation, and how it was found to be."""

    parts: Tuning
    """As the judgement on dev settled them."""
    seed: int
    model: Any
    best_step: int
    progress: Progress
    judged: dict[str, EvalResult]
    """By split: dev, and test where there is one."""
    diverged: DivergedError | None = None
    """Why training ended after the best evaluation, where it did so by an error."""


def judge_tuned(
    parts: Tuning,
    model: Any,
    *,
    seed: int,
    best_step: int,
    progress: Progress,
    diverged: DivergedError | None = None,
) -> TrainedRun:
    """Return a finished model judged on every split but train: on dev first, by which the rest of it is settled."""
    dev = parts.judge(model, "dev")
    settled = parts.settled(dev)
    others = {split: settled.judge(model, split) for split in parts.splits if split not in ("train", "dev")}
    return TrainedRun(settled, seed, model.eval(), best_step, progress, {"dev": dev, **others}, diverged)
