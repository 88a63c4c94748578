"""Turns a step of a run into the rows and masks it sees: of a recipe on a DATA folder, or of a RUN on its own data.

They are drawn by what draws them for training, so a step of a run is shown as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bertwright.corpus.manifest import read_manifest
from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import DataError, InputError, UsageError
from bertwright.files import read_json
from bertwright.log import note
from bertwright.result import Result
from bertwright.rng import key_of
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve, resume_settings
from bertwright.train.setup.pretrain_loader import objective_of, phase_source
from bertwright.types import Batch
from bertwright.verbs.calls.folder_kind import kind_of_folder, task_of_run
from bertwright.verbs.calls.showing.show_batch import rows_result


@dataclass(frozen=True)
class Place:
    """A step of a run: its phase, the batches drawn in that phase before it, and how far the run is, if that is known.

    exact says whether the step's number, by which its masks are drawn, is known.
    """

    phase: int
    drawn: int
    progress: float | None
    exact: bool


def show_step(
    thing: Path, number: int, *, recipe: str | None, phase: int | None, rows: int, seed: int | None = None
) -> Result:
    """Return rows of step `number` of a RUN, or of a run of `recipe` on a DATA folder, masks marked.

    With `phase`, counted from 1, `number` counts the steps of that phase. Raises UsageError where the step's phase
    cannot be known or there is none, and InputError where the data of a RUN is not there.
    """
    data, config, run = _of_run(thing) if recipe is None else (thing, resolve(recipe, {}), None)
    if kind_of_folder(data) != "data":
        raise UsageError(f"--recipe shows what a run on a DATA folder sees, and {data} is none")
    if number < 0 or rows < 1 or (phase is not None and not 1 <= phase <= len(config.schedule.phases)):
        raise UsageError(
            f"--batch counts from 0, --num-rows from 1, and --phase from 1 to {len(config.schedule.phases)}, its phases"
        )
    config = config if seed is None else config.model_copy(update={"seed": seed})
    place = _place(config, number, phase=phase, run=run)
    batch, tokenizer, per_epoch, objective = _drawn(data, config, place)
    index = place.drawn % config.engine.accumulation
    generator = torch.Generator().manual_seed(key_of("mask", config.seed, number, index))
    progress = config.schedule.start_of(place.phase) if place.progress is None else place.progress
    masked = objective.corrupt(batch, generator, progress)
    if not place.exact:
        note("masks are drawn by the number of the step in the whole run, so these are of the same kind, but others")
    if place.progress is None and objective.has_dynamic_slots:
        note("the mask rate changes along the run; it is shown as where the phase begins")
    if objective.shared:
        note("the generator of the run writes over these masked tokens; what it writes depends on its weights")
    if objective.asks_model:
        note("the run chooses masks by what its model is uncertain about; these are drawn without it")
    if config.engine.accumulation > 1:
        note(f"a step has {config.engine.accumulation} such micro-batches; this is the first")
    length, every = batch.input_ids.shape[1], len(batch.input_ids)
    title = (
        f"step {number} of {run or recipe} on {data}, phase {place.phase + 1}, seed {config.seed}: {every} rows of "
        f"{length} tokens, {float(batch.attention_mask.float().mean()):.0%} filled, the first {min(rows, every)} of "
        f"them; an epoch has {per_epoch:,} rows"
    )
    figures = {
        "kind": "batch", "batch": number, "data": data, "phase": place.phase + 1, "seed": config.seed,
        "rows_per_epoch": per_epoch, "masking": objective.describe(progress),
    }  # fmt: skip
    return rows_result(figures, title, batch, masked, tokenizer, most=rows, kind=objective.rows)


def _of_run(run: Path) -> tuple[Path, PretrainConfig, Path]:
    """Return the DATA folder and the settings of a RUN; raises InputError where the data is not as it was."""
    if kind_of_folder(run) != "run" or task_of_run(run) or not (run / "manifest.json").is_file():
        raise UsageError(f"--batch looks into a DATA folder or a RUN of `pretrain`, and {run} is none")
    try:
        manifest = read_json(run / "manifest.json")
        data, fingerprint = Path(manifest["data"]), manifest["fingerprint"]
        on_gpu = manifest["machine"]["device"] != "cpu"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{run / 'manifest.json'} is damaged ({error}); give the DATA folder and --recipe {run}/config.toml"
        ) from error
    if not (data / "manifest.json").is_file():
        raise InputError(
            f"{run} was trained on {data}, which is not there; give the DATA folder and --recipe {run}/config.toml"
        )
    config = resume_settings(run, {})
    if not config.data.others and read_manifest(data)["fingerprint"] != fingerprint:
        raise DataError(f"{data} is not what {run} was trained on: it was prepared again")
    if on_gpu:
        note("the run drew its masks on a GPU, these are drawn on the CPU: rows are the same, masks are others")
    return data, config, run


def _place(config: PretrainConfig, number: int, *, phase: int | None, run: Path | None) -> Place:
    """Return where step `number` of a run stands, or step `number` of a phase."""
    schedule, each = config.schedule, config.engine.accumulation
    if phase is not None:
        return Place(phase - 1, number * each, None, exact=phase == 1)
    if schedule.steps is not None:
        if number >= schedule.steps:
            raise UsageError(f"--batch {number}: the run has steps 0 to {schedule.steps - 1}")
        chosen = schedule.phase_at(number / schedule.steps)
        return Place(chosen, (number - _first_step(schedule, chosen)) * each, number / schedule.steps, exact=True)
    if len(schedule.phases) > 1 and run is not None:
        _require_first_phase(run, number, schedule)
    return Place(0, number * each, None, exact=True)


def _first_step(schedule: ScheduleConfig, phase: int) -> int:
    """Return the first step of a phase, of a run that is measured in steps."""
    steps = int(schedule.amount)
    first, last = 0, steps - 1
    while first < last:
        middle = (first + last) // 2
        first, last = (first, middle) if schedule.phase_at(middle / steps) >= phase else (middle + 1, last)
    return first


def _require_first_phase(run: Path, number: int, schedule: ScheduleConfig) -> None:
    """Raise UsageError where a run that is not measured in steps had left its first phase at a step."""
    from bertwright.train.callbacks.metrics_file import read_metrics

    lines: list[Mapping[str, Any]] = list(read_metrics(run / "metrics.jsonl"))
    within = [line for line in lines if line.get("length") == schedule.phases[0].length]
    last = max((int(line["step"]) for line in within), default=0)
    if number >= last and len(within) < len(lines):
        raise UsageError(
            f"--batch {number}: the first phase of {run} ended at step {last:,} or soon after; give --phase 2, and the "
            "number of the batch in it"
        )


def _drawn(data: Path, config: PretrainConfig, place: Place) -> tuple[Batch, Any, int, Any]:
    """Return the batch of a step, the tokenizer, the rows of an epoch, and the objective."""
    dataset = open_dataset(config.folders(data), mixture=config.data.shares)
    tokenizer = dataset.tokenizer
    objective = objective_of(
        config,
        vocab_size=dataset.vocab_size,
        mask_id=tokenizer.special.mask,
        similar=lambda: dataset.similar_words,
    )
    for shards in dataset.train:
        shards.check(dataset.vocab_size)
    source = phase_source(dataset, config, objective, config.schedule.phases[place.phase])
    return source.draw(place.drawn), tokenizer, source.rows_per_epoch, objective
