"""Turns the data and the settings of a pre-training run into the micro-batches of its phases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bertwright.data.prefetch import Prefetcher
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.dataset import Dataset
from bertwright.data.pretraining.mixture import MixtureSource
from bertwright.device import pick_device
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.init.begin import MEASURED_ROWS
from bertwright.objectives.base import PretrainingObjective
from bertwright.objectives.causal import CausalPhases
from bertwright.objectives.combine import build_objective
from bertwright.rng import key_of
from bertwright.train.auxiliary import scaled
from bertwright.train.loader import Loader
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.schedule import Phase
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.types import Batch, MaskedBatch, TokenRows

USED_RATE = 0.5
"""Fraction of the measured rate of matrix products that a run measured in minutes is taken to reach."""


def objective_of(
    config: PretrainConfig, *, vocab_size: int, mask_id: int, similar: Callable[[], Tensor] | None = None
) -> PretrainingObjective:
    """Return the objective of all phases of a run (see `build_objective`); raises ConfigError."""
    objective = build_objective(config.objective, vocab_size=vocab_size, mask_id=mask_id, similar=similar)
    causal = any(phase.causal for phase in config.schedule.phases)
    return CausalPhases(objective, config.schedule.is_causal) if causal else objective


def phase_source(
    dataset: Dataset, config: PretrainConfig, objective: PretrainingObjective, phase: Phase
) -> BatchSource | MixtureSource:
    """Return the micro-batches of a phase, from the rows of one folder or of several."""
    rows = phase.rows // config.engine.accumulation
    sources = [
        BatchSource(
            shards,
            special=dataset.tokenizer.special,
            length=phase.length,
            rows=rows,
            pairs=objective.rows != "single",
            ordered=objective.rows == "ordered_pairs",
            fill=config.data.fill_rows,
            pack=config.data.pack,
            seed=config.seed,
        )
        for shards in dataset.train
    ]
    return sources[0] if len(sources) == 1 else MixtureSource(sources, dataset.weights, rows=rows, seed=config.seed)


class PretrainLoader(Loader):
    """The micro-batches of a pre-training run; on a GPU, the next one of this process is made ahead.

    objective  what decides how many tokens are masked
    shape      that of the model, by which operations are counted
    """

    def __init__(
        self,
        dataset: Dataset,
        config: PretrainConfig,
        objective: PretrainingObjective,
        shape: ModelConfig,
        *,
        group: Group = ALONE,
    ) -> None:
        """Measure the data for every phase; raises DataError where rows of a phase cannot be made of it."""
        super().__init__(config.schedule, accumulation=config.engine.accumulation, group=group)
        self.objective, self.shape, self.seed = objective, shape, config.seed
        self.sources = [phase_source(dataset, config, objective, phase) for phase in config.schedule.phases]
        self._mine = [batch_slice.index for batch_slice in group.slices(self.accumulation)]
        ahead = pick_device().type == "cuda"
        self._prefetchers = [Prefetcher(partial(_pinned, one), self._after) for one in self.sources] if ahead else []

    def _after(self, t: int) -> int:
        """Return the number of the micro-batch that this process draws after `t`."""
        if t % self.accumulation not in self._mine:  # drawn out of turn, to measure something
            return t + 1
        place = self._mine.index(t % self.accumulation) + 1
        return t + 1 if place < len(self._mine) else t - self._mine[-1] + self.accumulation + self._mine[0]

    def draw(self, phase: int, t: int) -> Batch:
        """Return micro-batch `t` of a phase, on the CPU."""
        return self._prefetchers[phase](t) if self._prefetchers else self.sources[phase].draw(t)

    def rows_per_epoch(self, phase: int) -> int:
        """Return the rows in which the training split passes by once."""
        return self.sources[phase].rows_per_epoch

    def flops(self, batch: TokenRows, *, phase: int, fraction: float) -> int:
        """Return the useful operations of training on a micro-batch, forward and backward."""
        return self._flops(phase, fraction, rows=self.schedule.phases[phase].rows // self.accumulation)

    def step_flops(self, phase: int, fraction: float) -> int:
        """Return the useful operations of a step of all processes together."""
        return self._flops(phase, fraction, rows=self.schedule.phases[phase].rows)

    def _flops(self, phase: int, fraction: float, *, rows: int) -> int:
        length = self.schedule.phases[phase].length

        def flops_of(*, masked: int, outputs: int | None = None, **fields: Any) -> int:
            shape = scaled(self.shape, **fields)
            return training_flops(shape, rows=rows, length=length, masked=masked, outputs=outputs)

        return self.objective.flops(flops_of, length=length, progress=fraction)

    def run_flops(self, *, peak: float, seconds: float) -> float:
        """Return about how many operations a run takes, by its settings and data alone; in minutes, by its rate too.

        `peak` is the measured rate of matrix products, `seconds` what is left of the minutes before the first step.
        Tokens are taken as those of full rows, so a run of tokens takes at least the work returned.
        """
        schedule = self.schedule
        if schedule.unit == "minutes":
            return peak * USED_RATE * max(0.0, seconds)
        work, before = 0.0, 0.0
        for index, phase in enumerate(schedule.phases):
            per_epoch = self.rows_per_epoch(index)
            units = {"steps": 1.0, "tokens": phase.rows * phase.length, "epochs": phase.rows / per_epoch}
            steps = schedule.amount * phase.share / units[schedule.unit]
            work += steps * self.step_flops(index, before + phase.share / 2)
            before += phase.share
        return work

    def first_examples(self) -> list[MaskedBatch]:
        """Return the masked rows on which a start from the corpus measures what depends on the text: its first ones."""
        rows = self.schedule.phases[0].rows // self.accumulation
        return [
            self.objective.corrupt(self.draw(0, t), torch.Generator().manual_seed(key_of("start mask", self.seed, t)))
            for t in range(-(-MEASURED_ROWS // rows))
        ]


def _pinned(source: BatchSource | MixtureSource, t: int) -> Batch:
    return source.draw(t).pinned()
