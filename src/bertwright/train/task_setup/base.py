"""What every seed of a fine-tuning run is trained from: settings, the task, encoded examples of each split.

What is the same for all kinds of models is here: optimizers, the training step, batches and their schedule. What
differs is in the file of each kind: a head over the encoder, sentence vectors, or a decoder beside the encoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import nn

from bertwright.compiler import try_compiled_blocks
from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.device import Arithmetic, autocast, matmul_rate, product_dtype
from bertwright.errors import ConfigError
from bertwright.log import note
from bertwright.model.config import ModelConfig
from bertwright.model.encoder import kept_bytes
from bertwright.model.layers.dropout import Dropout, begin_at_row, follow_rows
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import EncodedExamples
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.tokenizer.load import Tokenizer
from bertwright.train.callbacks.base import Callback
from bertwright.train.loader import TaskLoader
from bertwright.train.micro_batches import MicroBatches, endless_room, room_for, room_on_gpu
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.parallel.group import BatchSlice
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.transfer import note_trained
from bertwright.types import TokenRows

WORTH_COMPILING = {"cpu": 2e13, "cuda": 2e15}
"""Floating-point operations of a run above which compiling its steps takes less time than it saves: some 30 s on two
cores, where compiled steps take three quarters of the time (MiniLM, 32 rows: 163 examples/s become 196)."""


@dataclass(frozen=True)
class TaskSetup(ABC):
    """What all seeds of a fine-tuning run have in common.

    folder          of the pre-trained model, whose encoder has the settings `encoder_config`
    task            has a name, a metric that chooses the checkpoint, all its metrics, and labels of its head, if any
    splits          by name: train, dev, and test where there is one
    unlabelled      files without labels, by the name of their split
    """

    can_compile: ClassVar[bool] = True
    """Whether steps may run compiled."""
    config: FinetuneConfig
    folder: Path
    encoder_config: ModelConfig
    tokenizer: Tokenizer
    task: Any
    splits: Mapping[str, EncodedExamples[Any, Any]]
    unlabelled: Mapping[str, UnlabelledFile]
    device: torch.device
    precision: Arithmetic

    @classmethod
    @abstractmethod
    def fitted(cls, config: Any, encoder_config: ModelConfig, folder: Path) -> tuple[Any, str]:
        """Return the settings fitted to a model, and the prompt it wants before each text; raises ConfigError."""

    def check(self) -> None:
        """Raise ConfigError where settings do not fit the task; note what is odd about the examples."""
        _ = self.metric

    def ready(self) -> Self:
        """Return the setup with what its model finds out about its examples before it is trained; usually nothing."""
        return self

    @abstractmethod
    def new_model(self, seed: int) -> Any:
        """Return the pre-trained model with what the task adds to it drawn from `seed`; reads the weights."""

    @abstractmethod
    def evaluate(self, model: Any, split: str, *, training: bool = False) -> EvalResult:
        """Return the figures of a model on a split, in float32, as it is after loading, and its mistakes.

        While `training`, figures alone, in the precision it trains in.
        """

    def tuned(self, model: Any) -> tuple[Self, EvalResult]:
        """Return the setup with what of its task is set on dev, thresholds and the like, and how good it is there."""
        return self, self.evaluate(model, "dev")

    def dev_figures(self, model: Any) -> dict[str, float]:
        """Return the figures of a model on dev while it trains."""
        return self.evaluate(model, "dev", training=True).figures

    @abstractmethod
    def save(self, model: Any, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the model folder `out` of a run called `name`, its card made from the figures of result.json."""

    def objective(self, model: Any) -> Any:
        """Return what gives the loss of a batch."""
        return self.task

    @property
    def constant_loss(self) -> float | None:
        """The loss of the best constant answer on train, in nats, where it is known."""
        found: float | None = self.task.constant_loss(self.splits["train"].examples)
        return found

    def rate_factors(self, model: Any) -> dict[str, float] | None:
        """Return the factor on the learning rate of each parameter; None where all are 1."""
        return None

    def callbacks(self, model: Any) -> list[Callback]:
        """Return what else a run of this kind needs after each step."""
        return []

    def extra_facts(self) -> dict[str, Any]:
        """Return what result.json holds for this kind of model alone."""
        return {}

    def files_read(self, files: Mapping[str, Path]) -> Mapping[str, Path]:
        """Return by name every file that is read for those of a call."""
        return files

    def row_bytes(self, model: Any) -> Callable[[int], int]:
        """Return what gives the memory that a row of so many tokens takes until the backward pass."""
        return partial(kept_bytes, self.encoder_config, recompute=self.config.engine.recompute)

    @abstractmethod
    def row_flops(self, rows: int, length: int) -> int:
        """Return the floating-point operations of training on so many rows of so many tokens."""

    def batch_flops(self, batch: TokenRows) -> int:
        """Return the floating-point operations of training on a batch."""
        return self.row_flops(*batch.input_ids.shape)

    @property
    def metric(self) -> str:
        """The figure the best checkpoint is chosen by; raises ConfigError where the task has none of that name."""
        metric: str = self.config.watch.metric or self.task.metric
        if metric not in self.task.metrics:
            raise ConfigError(
                f"watch.metric: {self.task.name} has no figure {metric!r}; known: {', '.join(self.task.metrics)}"
            )
        return metric

    @property
    def examples_per_step(self) -> int:
        """Examples of a step at most, and no more than there are."""
        return min(self.config.batches.rows, len(self.splits["train"].rows.drawn()))

    def cast(self) -> AbstractContextManager[Any]:
        """Return the context forward passes run in."""
        return autocast(self.precision, self.device)

    def source(self, seed: int) -> LabelledSource[Any]:
        """Return the batches of a seed by their number."""
        batches = self.config.batches
        rows = self.splits["train"].rows.drawn()
        return LabelledSource(rows, batch_rows=batches.rows, tokens=batches.tokens, seed=seed)

    def loader(self, seed: int) -> TaskLoader:
        """Return the batches of a seed; the schedule is as many steps as they make."""
        source, span, rows = self.source(seed), self.config.schedule, self.splits["train"].rows
        schedule = ScheduleConfig(
            **span.budget(source.steps(span.epochs)),
            warmup=span.warmup,
            phases=(Phase(length=max(8, rows.longest), rows=self.config.batches.rows, share=1.0),),
        )
        ahead = self.device.type == "cuda"
        return TaskLoader(source, schedule, rows_per_epoch=rows.row_count, flops=self.batch_flops, prefetch=ahead)

    def begin(self, model: Any, seed: int) -> tuple[TrainState, Any, Engine]:
        """Return the state of a run at its beginning, its objective, and how its steps are computed.

        Blocks of the model are compiled where that is worth its time.
        """
        objective, optimizer = self.objective(model), self.config.optimizer
        rates, dtype = self.rate_factors(model), product_dtype(self.precision)
        optimizers = build_optimizers(model, optimizer, dtype=dtype, rates=rates)
        note_trained(model)
        model.encoder.recompute = self.config.engine.recompute
        engine = Engine(device=self.device, seed=seed, clip_norm=optimizer.clip_norm, precision=self.precision)
        self._split_batches(engine, model, objective)
        if self._is_worth_compiling():
            compile_blocks(model, objective, engine, self.source(seed).draw(0))
        return TrainState(model, optimizers, Progress(drawn=[0])), objective, engine

    def _split_batches(self, engine: Engine, model: nn.Module, objective: Any) -> None:
        """Split batches as the settings say, and, on a CPU or by auto, those that keep more than there is room for.

        Raises TrainingError where one row does not fit.
        """
        batches, accumulation = self.config.batches, self.config.engine.accumulation
        fewest = 1 if accumulation == "auto" else accumulation
        lengths, each = self.splits["train"].rows.row_lengths, self.rows_per_example
        row_bytes = self.row_bytes(model)
        room: Callable[[int], int] = endless_room
        if self.device.type == "cpu":
            room = room_for(model, row_bytes, longest=int(lengths.max()), what=f"training {self.folder}")
        elif accumulation == "auto":
            room = room_on_gpu(model, self.device)
        if fewest > 1 or any(
            min(batches.rows * each, max(each, batches.tokens // length)) * row_bytes(length) > room(length)
            for length in np.unique(lengths).tolist()
        ):
            engine.micro_batches = MicroBatches(model, objective, self.cast, row_bytes, room, fewest)
            engine.begin_at_row = begin_at_row
            follow_rows(model)

    @property
    def rows_per_example(self) -> int:
        """Rows an example has in a batch, at most."""
        return int(self.splits["train"].rows.rows_per_example)

    def _is_worth_compiling(self) -> bool:
        """Say whether steps are to run compiled: as the settings say, or by the work of the run.

        Where blocks are unfrozen along the run they never are: each would have to be compiled again.
        """
        if self.config.transfer.unfreeze or not self.can_compile:
            return False
        if self.config.engine.compile is not None:
            return self.config.engine.compile
        rows = self.splits["train"].rows
        work = rows.row_count * self.row_flops(1, round(float(np.mean(rows.row_lengths))))
        return bool(work * self.config.schedule.epochs > WORTH_COMPILING[self.device.type])

    def peak_flops(self, *, rounds: int = 6) -> float:
        """Return the measured rate of this machine on the largest block product of a typical step."""
        rows = self.splits["train"].rows
        tokens = round(float(np.mean(rows.row_lengths)) * self.examples_per_step * rows.rows_per_example)
        width, widest = self.encoder_config.hidden_size, self.encoder_config.widest_product
        return matmul_rate(tokens, width, widest, precision=self.precision, device=self.device, rounds=rounds)


def compile_blocks(model: Any, objective: Any, engine: Engine, batch: TokenRows) -> None:
    """Compile the blocks of the model, with a batch to try; leaves nothing behind but that, and notes if it fails."""

    def attempt() -> None:
        model.train()
        engine.backward(model, objective, [(BatchSlice(0), batch)], step=0, of=1, fraction=0.0)

    drops = any(isinstance(module, Dropout) and module.rate > 0 for module in model.encoder.modules())
    reason = try_compiled_blocks(model.encoder.get_submodule("blocks").children(), attempt, drops=drops)
    model.zero_grad(set_to_none=True)
    if reason:
        note(f"running uncompiled, slower: the compiler did not work here ({reason})")
