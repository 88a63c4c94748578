"""Turns a DATA folder and a budget into the options of a plan: a run of each size, measured here or for a GPU."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertwright.corpus.manifest import read_manifest
from bertwright.data.pretraining.dataset import Dataset, open_dataset
from bertwright.device import pick_device, resolve_precision
from bertwright.errors import UsageError
from bertwright.log import note
from bertwright.model.build import ARCHITECTURES, build_encoder
from bertwright.model.encoder import parameter_count
from bertwright.nested import merge
from bertwright.planning.gpus import FULL_WIDTH, SHARE, Gpu
from bertwright.planning.law import Law
from bertwright.planning.options import (
    COMPILED,
    USEFUL,
    Option,
    batch_for,
    law_of,
    option_of,
)
from bertwright.train.schedule import Phase
from bertwright.train.setup.compiling import WORTH
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.setup.pretrain_loader import PretrainLoader, objective_of
from bertwright.train.setup.step_time import StepTime, counted, time_steps
from bertwright.verbs.calls.plan_flags import Budget
from bertwright.verbs.calls.pretrain_preview import disk_needed

SIZES = ("tiny", "mini", "small", "medium", "base", "large")
MEASURED = ("tiny", "mini", "small", "medium")
"""Sizes whose steps are measured; larger ones are taken to reach as many operations a second as the last of these."""
SECONDS = 30.0
"""Of measuring, all sizes together."""


@dataclass(frozen=True)
class Planned:
    """The options of a plan.

    disk           bytes that a run writes, by size
    phases         of the schedule, by size
    same_language  whether the law was fitted on runs of this language
    known_tokens   the fewest and the most that a run behind the law has
    known_weights  the same, of weights outside the vocabulary
    source         where the speed of a GPU comes from; empty where it was measured
    """

    options: list[Option]
    disk: dict[str, int]
    phases: dict[str, tuple[Phase, ...]]
    recipe: str
    language: str
    same_language: bool
    known_tokens: tuple[float, float]
    known_weights: tuple[float, float]
    vocab_size: int
    source: str


def plan_options(
    data: Path,
    budget: Budget,
    gpu: Gpu | None,
    *,
    recipe: str,
    size: str | None,
    settings: Mapping[str, Any],
    endless: bool,
) -> Planned:
    """Return what a budget buys on some data, which are read but once where the text is `endless`.

    Raises UsageError where it is too short for a step of any size, or no step fits a GPU.
    """
    given = merge(dict(settings), {"schedule": {"minutes": budget.minutes}})
    dataset, language = open_dataset([data]), str(read_manifest(data).get("language"))
    law, same_language = law_of(language)
    configs = {name: resolve(recipe, merge(given, {"size": name})) for name in sizes_of(recipe, given, size)}
    steps = measured(dataset, configs) if gpu is None else on_gpu(dataset, configs, gpu, budget)
    options, disk = [], {}
    for name, (config, step) in steps.items():
        step = replace(step, rows_per_epoch=10**15) if endless else step
        option, disk[name] = one_option(name, dataset, config, step, budget, law, gpu)
        options.append(option)
    fitting = [one for one in options if gpu is None or one.memory <= gpu.memory]
    if not fitting:
        raise UsageError(f"no step of {options[0].size} fits {budget.gpus} x {budget.gpu}; give a smaller --size")
    possible = [one for one in fitting if one.steps >= 1]
    if not possible:
        raise UsageError(f"{budget.minutes:g} minutes are too short for a single step; give more of them")
    source = "" if gpu is None else (
        f"speed: {gpu.flops / 1e12:,.1f} TFLOPS ({gpu.source}), of which {SHARE:.0%} is assumed to be reached from "
        f"width {FULL_WIDTH} on, in proportion below, and by several GPUs together"
    )  # fmt: skip
    phases = {name: config.schedule.phases for name, (config, _) in steps.items()}
    known_tokens, known_weights = ((float(one.min()), float(one.max())) for one in (law.runs.tokens, law.runs.sizes))
    return Planned(
        possible, disk, phases, recipe, language, same_language, known_tokens, known_weights, dataset.vocab_size, source
    )  # fmt: skip


def sizes_of(recipe: str, settings: Mapping[str, Any], size: str | None) -> list[str]:
    """Return the sizes to compare: one, where it is named or the settings have a shape of their own."""
    config = resolve(recipe, merge(dict(settings), {"size": size} if size else {}))
    shaped = {"layers", "hidden_size", "heads"} & set(settings.get("model", {}))
    known = ARCHITECTURES[config.model.architecture].config_type.sizes
    return [config.size] if size or shaped else [name for name in SIZES if name in known]


def measured(dataset: Dataset, configs: Mapping[str, PretrainConfig]) -> dict[str, tuple[PretrainConfig, StepTime]]:
    """Return what a step of each size takes here, in the order of sizes."""
    names = [name for name in configs if name in MEASURED] or list(configs)
    found: dict[str, tuple[PretrainConfig, StepTime]] = {}
    rate, began = 0.0, time.perf_counter()
    note(f"measuring steps of {', '.join(names)} on this machine, about {SECONDS:.0f} s")
    for index, name in enumerate(names):
        left = SECONDS - (time.perf_counter() - began)
        step = time_steps(dataset, configs[name], seconds=max(0.0, left) / (len(names) - index))
        rate = step.flops / step.seconds
        found[name] = configs[name], step
    for name in configs.keys() - found.keys():
        bare = counted(loader_of(dataset, configs[name]), seconds=1.0)
        found[name] = configs[name], replace(bare, seconds=bare.flops / rate)
    return {name: found[name] for name in configs}


def on_gpu(
    dataset: Dataset, configs: Mapping[str, PretrainConfig], gpu: Gpu, budget: Budget
) -> dict[str, tuple[PretrainConfig, StepTime]]:
    """Return what a step of each size takes on GPUs of the table, with as many rows as suit the tokens of the run."""
    found = {}
    for name, config in configs.items():
        loader = loader_of(dataset, config)
        usual = counted(loader, seconds=1.0)
        rate = gpu.rate(loader.shape.hidden_size) * budget.gpus
        tokens = 60 * budget.minutes * USEFUL * rate / usual.flops * usual.tokens
        rows = config.schedule.phases[0].rows
        times = batch_for(tokens, rows) // rows
        phases = tuple(phase.model_copy(update={"rows": phase.rows * times}) for phase in config.schedule.phases)
        larger = config.model_copy(update={"schedule": config.schedule.model_copy(update={"phases": phases})})
        step = StepTime(
            usual.flops * times / rate, usual.tokens * times, usual.flops * times, usual.rows_per_epoch
        )  # fmt: skip
        found[name] = larger, step
    return found


def loader_of(dataset: Dataset, config: PretrainConfig) -> PretrainLoader:
    """Return the batches of a run whose model is not made."""
    special = dataset.tokenizer.special
    objective = objective_of(config, vocab_size=dataset.vocab_size, mask_id=special.mask, similar=None)
    shape = config.shape(vocab_size=dataset.vocab_size, pad_token_id=special.pad)
    return PretrainLoader(dataset, config, objective, shape)


def one_option(
    name: str, dataset: Dataset, config: PretrainConfig, step: StepTime, budget: Budget, law: Law, gpu: Gpu | None
) -> tuple[Option, int]:
    """Return what a run of one size would be, and the bytes that it writes."""
    phase = config.schedule.phases[0]
    with torch.device("meta"):
        shape = config.shape(vocab_size=dataset.vocab_size, pad_token_id=dataset.tokenizer.special.pad)
        model = build_encoder(shape, drawn=False)
    device = "cuda" if gpu is not None else pick_device().type
    compiles = device == "cpu" and config.engine.compile is not False
    seconds = 60 * budget.minutes
    if compiles and step.flops / step.seconds * seconds > WORTH["cpu"]:
        step = replace(step, seconds=step.seconds / COMPILED)
    precision = resolve_precision(config.engine.precision, pick_device()) if gpu is None else gpu.precision
    option = option_of(
        name, shape, step, law=law, seconds=seconds, weights=parameter_count(model), rows=phase.rows,
        length=phase.length, masked=round(phase.length * config.objective.mask_rate),
        bytes_each=4 if precision == "fp32" else 2, device=device, gpus=budget.gpus,
        limit=math.inf if gpu is None else gpu.memory,
    )  # fmt: skip
    return option, disk_needed(model, config)
