"""What is tuned for a task: each trial fine-tunes a model and is evaluated on dev, or on folds of the training file.

Files are read and encoded once for each model and fold, and all trials share these rows; everything else of a trial is
its own. A run is evaluated at its end, where the learning rate is zero: the best of many evaluations would make long
runs look better than they are.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.config import Between, OneOf
from bertwright.errors import UsageError
from bertwright.files import sha256_of
from bertwright.log import silent
from bertwright.model.encoder import parameter_count
from bertwright.model.lora import merge_adapters
from bertwright.nested import merge
from bertwright.rng import stream
from bertwright.search.base import MODEL, Params, Run, Tunable
from bertwright.search.space import nearest, settings_of, usual_of, without_fixed
from bertwright.search.trials import flat
from bertwright.system import tune_malloc
from bertwright.tasks.by_name import TASKS, task_named
from bertwright.tasks.examples import fold_places
from bertwright.tasks.metrics import sign_of
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.metrics_file import MetricsWindow
from bertwright.train.loop import train
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.by_task import set_up, with_config, with_examples
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.train.task_setup.finetune_space import SPACE, SPACES, TRIED_FIRST
from bertwright.train.task_setup.seeds import task_memory_explained

PARTS, FEWEST = 8, 10
"""Parts that dev is cut into, by which trials are compared, and examples of a part at least."""
UNCOMPILED = {"engine": {"compile": False}}
"""Runs are not compiled, where not asked for: each would spend half a minute on it."""
EPOCHS, DROPOUT = "schedule.epochs", "transfer.dropout"
STEPS, FEWEST_STEPS, STEP_SECONDS, FORWARDS = 10, 3, 3.0, 10
"""Steps that a model's speed is measured over, or fewer once they took so many seconds; forward passes for its latency.
"""
FINISHING = 2.0
"""Evaluations on dev that a seed of the winner takes beside those of its epochs: in float32 at its end, and on test."""


@dataclass(frozen=True)
class ModelSpeed:
    """What was measured of a model on this machine.

    epoch, alone  seconds of an epoch, in a process of the search and with all cores
    evaluation    seconds of an evaluation on dev in a process of the search
    start         seconds before the first step
    latency       milliseconds of a forward pass over one text of usual length, with all cores
    parameters    of the encoder and its head
    """

    epoch: float
    alone: float
    evaluation: float
    start: float
    latency: float
    parameters: int


class TaskTrials(Tunable):
    """The trials of a task: each draws settings of `finetune`, and one of the models."""

    def __init__(
        self, task: str, models: Sequence[Path], files: Mapping[str, Path], settings: Mapping[str, Any], *, folds: int
    ) -> None:
        """Read and encode the files for each model; with `folds` (0 for none) the training file is cut into them.

        Raises what `finetune` raises for files, models and settings that do not fit.
        """
        self.task, self.files, self.folds = task, dict(files), folds
        self.given = merge(UNCOMPILED, settings)
        config = resolve_finetune(task, self.given)
        whole = {**files, "dev": files["train"]} if folds else files
        self.read = {name: path for name, path in whole.items() if name != "test"}
        self.setups = {str(folder): self._encoded(set_up(config, folder, self.read)) for folder in models}
        first = next(iter(self.setups.values()))[0]
        self.metric, self.sign = first.metric, sign_of(first.metric)
        self.speeds: dict[str, ModelSpeed] = {}
        self.most_epochs: dict[str, int] = {}
        head = task_named(task, config.head).space if task in TASKS else {}
        several = {MODEL: OneOf(tuple(self.setups))} if len(self.setups) > 1 else {}
        self.space = without_fixed({**SPACES.get(task, SPACE), **head}, settings) | several
        if not self.space:
            raise UsageError("this call fixes every setting that tune searches; leave some out, or call finetune")

    def _encoded(self, setup: TaskSetup) -> tuple[TaskSetup, ...]:
        """Return the setups of a model, one for each fold: rows of train, of dev, and of the parts of dev."""
        if not self.folds:
            return (with_parts(setup),)
        examples, every = setup.splits["train"].examples, []
        for held in fold_places(examples, self.folds):
            kept = np.setdiff1d(np.arange(len(examples)), held)
            every.append(with_parts(with_examples(setup, {"train": examples.take(kept), "dev": examples.take(held)})))
        return tuple(every)

    def limit_epochs(self, most: Mapping[str, int]) -> None:
        """Draw no more epochs than each model has time for."""
        self.most_epochs = dict(most)
        if EPOCHS in self.space:
            one = self.space[EPOCHS]
            assert isinstance(one, Between)
            high = max(one.low, min(one.high, max(most.values())))
            self.space = {**self.space, EPOCHS: replace(one, high=high)}

    @property
    def first(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The defaults of each model, then what often does well, whichever model it is with."""
        every = [self._usual(name) | ({MODEL: name} if MODEL in self.space else {}) for name in self.setups]
        usual = self._usual(next(iter(self.setups)))
        for other in TRIED_FIRST:
            known = {name: nearest(self.space[name], value) for name, value in other.items() if name in usual}
            if known and usual | known not in every:
                every.append(usual | known)
        return every

    @property
    def usual(self) -> int:  # type: ignore[override]
        """The defaults of each model."""
        return len(self.setups)

    def _usual(self, model: str) -> dict[str, Any]:
        """Return what would be drawn for the defaults of a model."""
        defaults = self._defaults(model)
        return {name: usual_of(one, defaults[name]) for name, one in self.space.items() if name != MODEL}

    def _defaults(self, model: str) -> dict[str, Any]:
        """Return the settings of a model by their dotted names, as they are without a search."""
        setup = self.setups[model][0]
        defaults = flat(setup.config.model_dump(mode="json"))
        if defaults[DROPOUT] is None:
            defaults[DROPOUT] = setup.encoder_config.dropout
        return defaults

    def model(self, params: Params) -> str:
        """Return the folder of the model of a trial."""
        return str(params.get(MODEL, next(iter(self.setups))))

    def settings(self, params: Params) -> dict[str, Any]:
        """Return the settings that a trial has drawn, nested, as finetune takes them; none for the defaults."""
        model = self.model(params)
        space = {name: one for name, one in self.space.items() if name != MODEL}
        layers = self.setups[model][0].encoder_config.layers
        settings = settings_of(space, params, self._defaults(model), layers=layers)
        if "schedule" in settings:
            settings["schedule"]["epochs"] = self.epochs(params)
        return settings

    def epochs(self, params: Params) -> int | float:
        """Return the epochs of a trial."""
        model = self.model(params)
        drawn: int | float = params.get(EPOCHS, self.setups[model][0].config.schedule.epochs)
        return min(drawn, self.most_epochs.get(model, drawn))

    def run_seconds(self, params: Params) -> float:
        """Return about how long a run takes: its epochs, and two evaluations, one of them of the parts of dev."""
        speed = self.speeds[self.model(params)]
        return speed.start + self.epochs(params) * speed.epoch + 2 * speed.evaluation

    def retraining_seconds(self, params: Params) -> float:
        """Return about how long a seed of the winner takes: its epochs, each evaluated, and evaluations at its end."""
        speed, epochs = self.speeds[self.model(params)], self.epochs(params)
        return speed.start + epochs * speed.alone + (epochs + FINISHING) * speed.evaluation

    def run(self, params: Params, number: int, watch: Callback) -> Run:
        """Fine-tune with the seed, or on the fold, of a run, and evaluate on dev and on its parts."""
        began, every = time.perf_counter(), self.setups[self.model(params)]
        with silent(True):
            config = resolve_finetune(self.task, merge(self.given, self.settings(params)))
            setup = with_config(every[number % len(every)], config, self.read)
        model = train_run(setup, config.seed + number, [watch])
        figure = setup.evaluate(model, "dev", training=True).figures[self.metric]
        parts = [name for name in setup.splits if name.startswith("dev.")]
        of_parts = [setup.evaluate(model, name, training=True).figures[self.metric] for name in parts]
        return Run(figure, tuple(map(float, of_parts)), time.perf_counter() - began)

    def measure(self, *, each: int, alone: int) -> dict[str, ModelSpeed]:
        """Train a few steps of each model, on `each` threads and on all; keep and return what that shows."""
        self.speeds = {name: speed_of(one[0], each=each, alone=alone) for name, one in self.setups.items()}
        return self.speeds

    def identity(self) -> dict[str, Any]:
        """Return what must be the same for a study to be gone on with."""
        setup = next(iter(self.setups.values()))[0]
        return {
            "the task": self.task,
            **{f"the {name} file": sha256_of(path) for name, path in setup.files_read(self.files).items()},
            "--folds": self.folds,
            "the models": {name: model_hashes(Path(name)) for name in self.setups},
            "the settings": dict(self.given),
        }


def with_parts(setup: TaskSetup) -> TaskSetup:
    """Return a setup with parts of dev beside it, drawn at random, the same each time.

    Examples that belong together, such as the passages of a query, are in one part.
    """
    dev = setup.splits["dev"].examples
    groups = np.unique(dev.groups(), return_inverse=True)[1]
    count = max(1, min(PARTS, int(groups.max() + 1) // FEWEST))
    part_of = stream("parts of dev", 0, 0).permutation(int(groups.max()) + 1)[groups] % count
    with silent(True):  # what there is to say of dev is said
        return with_examples(setup, {f"dev.{part}": dev.take(np.flatnonzero(part_of == part)) for part in range(count)})


def train_run(setup: TaskSetup, seed: int, callbacks: Sequence[Callback]) -> Any:
    """Return a model trained to the end of its schedule; nothing is written, and nothing evaluated on the way.

    Raises TrainingError where it diverges or does not fit into memory.
    """
    with task_memory_explained(setup):
        with silent(True):
            model = setup.new_model(seed)
            (state, objective, engine), loader = setup.begin(model, seed), setup.loader(seed)
        window = MetricsWindow()
        every = [window, DivergenceCallback(model, window), EndIfDiverged(), *setup.callbacks(model), *callbacks]
        model.train()
        with tune_malloc():
            train(state, loader, objective, every, engine=engine)
    merge_adapters(model)
    return model


def speed_of(setup: TaskSetup, *, each: int, alone: int) -> ModelSpeed:
    """Return what a model takes on this machine, on `each` threads of a process of the search and on all."""
    began, before = time.perf_counter(), torch.get_num_threads()
    with silent(True):
        model = setup.new_model(0)
        (state, objective, engine), loader = setup.begin(model, 0), setup.loader(0)
    start, epochs = time.perf_counter() - began, setup.config.schedule.epochs
    steps, seconds = max(1, round(setup.source(0).steps(epochs) / epochs)), {}
    model.train()
    for threads in dict.fromkeys((each, alone)):
        torch.set_num_threads(threads)
        times: list[float] = []
        while len(times) < STEPS and not (len(times) > FEWEST_STEPS and sum(times) > STEP_SECONDS):
            began = time.perf_counter()
            work = loader.work(0, len(times) % max(1, setup.source(0).steps(epochs)))
            engine.step(state, objective, work, of=1, fraction=0.5, rate_factor=0.0)
            times.append(time.perf_counter() - began)
        seconds[threads] = float(np.mean(times[1:])) * steps
    latency = forward_milliseconds(setup, model)
    torch.set_num_threads(each)
    began = time.perf_counter()
    setup.evaluate(model, "dev", training=True)
    evaluation = time.perf_counter() - began
    torch.set_num_threads(before)
    return ModelSpeed(seconds[each], seconds[alone], evaluation, start, latency, parameter_count(model))


@torch.inference_mode()
def forward_milliseconds(setup: TaskSetup, model: Any) -> float:
    """Return the median time of a forward pass of the encoder over one row of usual length."""
    length = int(np.median(setup.splits["dev"].rows.row_lengths))
    ids = torch.full((1, length), setup.tokenizer.special.mask, device=setup.device)
    mask, times = torch.ones_like(ids, dtype=torch.bool), []
    model.eval()
    for _ in range(FORWARDS):
        began = time.perf_counter()
        model.encoder.encode(ids, torch.zeros_like(ids), mask, None).float().sum().item()
        times.append(time.perf_counter() - began)
    model.train()
    return 1000 * float(np.median(times))


def model_hashes(folder: Path) -> dict[str, str]:
    """Return the checksums of the files that a model is made of, by their names."""
    files = sorted(one for pattern in ("*.json", "*.safetensors", "*.bin", "vocab.txt") for one in folder.glob(pattern))
    return {path.name: sha256_of(path) for path in files}
