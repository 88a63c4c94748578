"""What is tuned of pre-training: each trial is a short run of its own, its learning rate decayed to the end.

All runs take the same minutes, so a larger model or a larger batch has to pay for its time. They are compared by the
loss on held-out text, of which 15% are masked whatever a trial masks.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bertwright.config import Range
from bertwright.corpus.manifest import read_manifest
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import TrainingError, UsageError
from bertwright.files import remove
from bertwright.log import silent
from bertwright.nested import merge
from bertwright.search.base import Params, Run, Tunable
from bertwright.search.space import settings_of, usual_of, without_fixed
from bertwright.search.trials import flat
from bertwright.train.callbacks.base import Callback
from bertwright.train.setup.assemble import build
from bertwright.train.setup.pretrain_config import SPACE, TRIED_FIRST, resolve
from bertwright.verbs.calls.run_folder import data_settings
from bertwright.verbs.pretrain import pretrain

DEFAULT_RECIPE = "classic-fast"
TRIALS = 14
"""Runs of trials and of the finals that there should be time for."""
LEAST_SECONDS, LEAST_STEPS = 30.0, 100
"""What a run must have time for."""
BESIDE = 10.0
"""Seconds of a run beside its minutes: checking the data, and writing its model."""
ROWS, RUNS = "schedule.rows", "runs"


class PretrainTrials(Tunable):
    """The trials of pre-training on some data."""

    metric, sign, usual = "mlm_loss", -1, 1

    def __init__(self, data: Sequence[Path], out: Path, recipe: str, settings: Mapping[str, Any]) -> None:
        """Take the DATA folders, the folder of the study, the recipe to start from and the settings trials share."""
        self.data, self.out, self.recipe, self.given = list(data), out, recipe or DEFAULT_RECIPE, settings
        first, self.folders = data_settings(self.data, None)
        self.manifests = [read_manifest(folder) for folder in self.data]
        self.config = resolve(self.recipe, merge(merge(self.folders, settings), {"schedule": {"minutes": 1.0}}))
        self.minutes, self.main = 1.0, first
        self.defaults = flat(self.config.model_dump(mode="json"))
        self.defaults[ROWS] = self.config.schedule.phases[0].rows
        space: dict[str, Range] = without_fixed(SPACE, settings)
        if self.config.optimizer.name != "muon":
            space.pop("optimizer.muon_learning_rate", None)
        if len({phase.rows for phase in self.config.schedule.phases}) > 1:
            space.pop(ROWS, None)
        self.space = space

    @property
    def first(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The defaults, then what often does well."""
        usual = {name: usual_of(one, self.defaults[name]) for name, one in self.space.items()}
        others = [{name: value for name, value in one.items() if name in usual} for one in TRIED_FIRST]
        return [usual, *(usual | known for known in others if known)]

    def model(self, params: Params) -> str:
        """Return the size of the model of a trial."""
        return str(params.get("size", self.config.size))

    def settings(self, params: Params) -> dict[str, Any]:
        """Return the settings that a trial has drawn; a mask rate that is drawn is the same throughout the run.

        None for the defaults.
        """
        settings = settings_of(self.space, params, self.defaults, layers=0)
        if "objective" in settings:
            settings = merge({"objective": {"final_mask_rate": None, "mask_phases": ()}}, settings)
        return settings

    def run_seconds(self, params: Params) -> float:
        """Return the seconds of a run."""
        return 60 * self.minutes + BESIDE

    def retraining_seconds(self, params: Params) -> float:
        """Return the seconds of a seed of the winner: as many."""
        return self.run_seconds(params)

    def run_settings(self, found: Mapping[str, Any], seed: int) -> dict[str, Any]:
        """Return the settings of a run of so many minutes with what a trial has found, and a seed after the first."""
        run = {"seed": self.config.seed + seed, "schedule": {"minutes": self.minutes}}
        return merge(merge(self.given, found), run)

    def run(self, params: Params, number: int, watch: Callback) -> Run:
        """Pre-train for the minutes of a run; its folder is deleted when its figures are read."""
        began, folder = time.perf_counter(), self.out / RUNS / str(os.getpid())
        remove(folder)
        settings = self.run_settings(self.settings(params), number)
        try:
            with silent(True):
                figures = pretrain(self.data, folder, recipe=self.recipe, settings=settings)
        finally:
            remove(folder)
        if self.metric not in figures["valid"]:
            raise TrainingError(
                f"{self.main} has no held-out text to compare runs by; prepare it with --valid-fraction"
            )
        loss = float(figures["valid"][self.metric])
        return Run(loss, (loss,), time.perf_counter() - began)

    def measure(self, *, limit: float, spent: float, seeds: int, processes: int, threads: int) -> None:
        """Find the minutes of a run: so many that there is time for about 14 trials and the seeds of the winner.

        Raises UsageError where runs would be of a few steps.
        """
        began = time.perf_counter()
        step = self.step_seconds(threads)
        left, count = limit - spent - (time.perf_counter() - began), TRIALS / processes + seeds
        seconds, least = left / count - BESIDE, max(LEAST_SECONDS, LEAST_STEPS * step)
        if seconds < least:
            minutes = (limit - left + count * (least + BESIDE)) / 60
            raise UsageError(
                f"--minutes {limit / 60:g} is too short: a step of {self.config.size} takes {step:.2f} s here, so a "
                f"run should have {least:.0f} s at least; give --minutes {math.ceil(minutes)}"
            )
        self.minutes = round(seconds / 60, 3)

    def step_seconds(self, threads: int) -> float:
        """Return how long a step of the defaults takes on so many threads, the fastest of three."""
        before, times = torch.get_num_threads(), []
        torch.set_num_threads(threads)
        with silent(True):
            state, loader, objective, engine = build(open_dataset(self.data), self.config, fresh=False)
        each = loader.accumulation
        for t in range(3):
            began = time.perf_counter()
            engine.step(state, objective, loader.work(0, t * each), of=each, fraction=0.5, rate_factor=0.0)
            times.append(time.perf_counter() - began)
        torch.set_num_threads(before)
        return min(times)

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a study to be gone on with."""
        prints = {str(folder): one["fingerprint"] for folder, one in zip(self.data, self.manifests, strict=True)}
        return {"the task": "pretrain", "the data": prints, "--recipe": self.recipe, "the settings": dict(self.given)}
