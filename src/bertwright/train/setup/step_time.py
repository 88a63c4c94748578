"""Measures how long a step of a pre-training run takes on this machine, and counts what is in it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median

from bertwright.data.pretraining.dataset import Dataset
from bertwright.train.setup.assemble import build
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.setup.pretrain_loader import PretrainLoader

MOST = 60
"""Steps that are measured at most."""


@dataclass(frozen=True)
class StepTime:
    """A step of the first phase of a run.

    seconds         it takes, uncompiled
    tokens          it trains on, padding not counted
    flops           useful floating-point operations
    rows_per_epoch  rows in which the training split passes by once
    """

    seconds: float
    tokens: float
    flops: float
    rows_per_epoch: int


def counted(loader: PretrainLoader, *, seconds: float) -> StepTime:
    """Return what is in a step of a loader, the mean of its first ones, and that it takes `seconds`."""
    counts = [loader.counts(loader.work(0, t * loader.accumulation), phase=0, fraction=0.5) for t in range(4)]
    tokens, flops = (sum(count[name] for count in counts) / len(counts) for name in ("tokens", "flops"))
    return StepTime(seconds, tokens, flops, loader.rows_per_epoch(0))


def time_steps(dataset: Dataset, config: PretrainConfig, *, seconds: float) -> StepTime:
    """Return the median step of about so many seconds of training, of three steps at least; the first is not counted.

    The model starts from noise and is thrown away. Raises what building the run would raise.
    """
    state, loader, objective, engine = build(dataset, config, fresh=False)
    each, times, began = loader.accumulation, list[float](), time.perf_counter()
    while len(times) < 4 or (time.perf_counter() - began < seconds and len(times) < MOST):
        before = time.perf_counter()
        work = loader.work(0, len(times) * each)
        engine.step(state, objective, work, of=each, fraction=0.5, rate_factor=0.0)
        times.append(time.perf_counter() - before)
    return counted(loader, seconds=median(times[1:]))
