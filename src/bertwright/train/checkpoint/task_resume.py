"""Keeps what an interrupted fine-tuning run needs to go on: its settings, its checkpoint, and its finished seeds.

RUN/checkpoints/step-N/            where the seed in training stood (RUN/seeds/K/checkpoints/ with several seeds)
RUN/checkpoints/finished/          figures of the seeds that are done, and the weights of the best of them

All of it is deleted when the run is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from bertwright.errors import ModelError, OutputExistsError
from bertwright.files import clear_leftovers, read_json, remove, sha256_of, write_json, written_aside
from bertwright.log import note
from bertwright.model.lora import merge_adapters
from bertwright.nested import merge, read_toml
from bertwright.tasks.metrics import sign_of
from bertwright.train.callbacks.best import BestCallback
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.checkpoint.folder import Retention, damaged, first_difference, newest_whole, read_checkpoint
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import MISFITS, restore
from bertwright.train.state import Progress, TrainState, check_position
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.trained import TrainedRun, evaluate_trained

MAY_CHANGE: dict[str, Any] = {
    "watch": {"log_every", "mistakes", "track", "checkpoint_minutes", "checkpoint_steps"}, "seed": True,
    "engine": {"device", "accumulation", "recompute"},
}  # fmt: skip
"""Settings that may change while a run is interrupted; each seed has an identity of its own."""
NEWER = (
    ("transfer", "few_shot"),
    ("head", "windows"),
    ("head", "window_overlap"),
    ("split", "folds"),
    ("embed", "dimensions"),
    ("embed", "hard_negatives"),
    ("embed", "margin"),
    ("watch", "suspects"),
)
"""Settings that checkpoints of earlier versions do not name: where they are as usual, they say nothing."""


@dataclass
class Finished:
    """The seeds of a run that are trained to the end: figures of each, and the best of them."""

    seed_results: list[dict[str, Any]] = field(default_factory=list)
    best: TrainedRun | None = None

    @property
    def seeds(self) -> set[int]:
        """Their numbers."""
        return {one["seed"] for one in self.seed_results}

    def left(self, seeds: Sequence[int]) -> list[int]:
        """Return which of some seeds are still to be trained."""
        return [seed for seed in seeds if seed not in self.seeds]

    def add(self, trained: TrainedRun) -> None:
        """Count a seed in, and keep it where it is better on dev than all before it."""
        figures = {split: result.figures for split, result in trained.results.items()}
        self.seed_results.append({"seed": trained.seed, **figures})
        metric = trained.setup.metric
        dev = [run.results["dev"].figures[metric] for run in (trained, self.best) if run is not None]
        if self.best is None or sign_of(metric) * dev[0] > sign_of(metric) * dev[1]:
            self.best = trained


def is_done(run: Path) -> bool:
    """Return whether a run came to its end: its page is there, and not that of a run that trains."""
    page = run / "report.html"
    return page.is_file() and 'name="progress"' not in page.read_text(encoding="utf-8", errors="replace")[:500]


def resumed_settings(out: Path, task: str, settings: Mapping[str, Any], *, seeds: int) -> dict[str, Any]:
    """Return the settings in RUN/config.toml overridden by `settings`, but for the task.

    Raises ModelError where there is no run of this task and so many seeds to go on with, and OutputExistsError where it
    is done.
    """
    if not (out / "config.toml").is_file():
        raise ModelError(f"there is no run to resume in {out} (no config.toml); start it without --resume")
    if is_done(out):
        raise OutputExistsError(f"the run in {out} is done, so there is nothing to resume; give another --out")
    kept = read_toml(out / "config.toml")
    if kept.pop("task", task) != task:
        raise ModelError(f"the run in {out} is of another task than {task}; resume it with its own")
    begun = read_json(out / "manifest.json").get("seeds") if (out / "manifest.json").is_file() else None
    if begun not in (None, seeds):
        raise ModelError(
            f"the run in {out} is one of --num-seeds {begun}, not {seeds}; resume it with --num-seeds {begun}"
        )
    return merge(kept, settings)


def task_identity(setup: TaskSetup, files: Mapping[str, Path]) -> dict[str, Any]:
    """Return what must be the same for a run to be gone on with: files, model and settings."""
    exclude = {
        **MAY_CHANGE,
        **({"split": True} if "dev" in files else {}),
        **({} if setup.config.options else {"options": True}),  # checkpoints of earlier versions do not name them
    }
    settings = setup.config.model_dump(mode="json", exclude=exclude)
    for section, name in NEWER:
        if section in settings and settings[section][name] == getattr(type(getattr(setup.config, section))(), name):
            del settings[section][name]
    weights = sorted(
        [setup.folder / "config.json", *setup.folder.glob("*.safetensors"), *setup.folder.glob("pytorch_model*.bin")]
    )
    return {
        **{f"the {name} file": sha256_of(path) for name, path in setup.files_read(files).items()},
        **({} if "dev" in files else {"the dev file": "a share of the train file"}),
        "the model": {path.name: sha256_of(path) for path in weights},
        "precision": setup.precision,
        **settings,
    }


def require_same_run(out: Path, identity: Mapping[str, Any]) -> None:
    """Raise ModelError where the run in `out`, if it came to write its manifest, was begun with something else."""
    file = out / "manifest.json"
    other = first_difference(read_json(file).get("identity", {}), identity) if file.is_file() else None
    if other is not None:
        name, before, value = other
        raise ModelError(
            f"the run in {out} was begun with another value of {name} ({before!r}, now {value!r}); "
            "resume with the same, or start anew in another --out"
        )


def restore_seed(
    folder: Path, state: TrainState, best: BestCallback, *, seed: int, identity: Mapping[str, Any]
) -> None:
    """Restore the state of a seed from the last whole checkpoint in `folder`, if there is one; `best` is part of it."""
    state.best = best
    checkpoint = newest_whole(folder)
    if checkpoint is None:
        return
    saved, _ = read_checkpoint(checkpoint, identity={**identity, "seed": seed})
    try:
        restore(state, saved)
    except MISFITS as error:
        raise damaged(checkpoint, error) from error
    note(f"seed {seed}: going on from step {state.progress.step:,}")


def task_checkpointing(
    setup: TaskSetup, folder: Path, state: TrainState, *, identity: Mapping[str, Any], seed: int
) -> CheckpointCallback:
    """Return the callback that has checkpoints of a seed written into its folder."""
    saver = Saver(
        folder,
        state,
        identity={**identity, "seed": seed},
        retention=Retention(newest=1),
        beside=[folder / "metrics.jsonl"],
    )
    watch = setup.config.watch
    return CheckpointCallback(saver, minutes=watch.checkpoint_minutes, steps=watch.checkpoint_steps, at_end=False)


def keep_finished(out: Path, finished: Finished) -> None:
    """Write down the seeds that are done, with the weights of the best."""
    best = finished.best
    assert best is not None
    with written_aside(out / "checkpoints" / "finished") as aside:
        aside.mkdir()
        weights = {name: p.detach().contiguous() for name, p in best.model.named_parameters()}
        save_file(weights, aside / "weights.safetensors")
        facts = {"seed": best.seed, "best_step": best.best_step, "position": best.progress.state()}
        write_json(aside / "seeds.json", {"seen": finished.seed_results, "best": facts})


def read_finished(out: Path, setup: TaskSetup) -> Finished:
    """Return the seeds that are done, the best of them evaluated again; none where nothing was written down."""
    folder = out / "checkpoints" / "finished"
    clear_leftovers(folder.parent)
    if not folder.is_dir():
        return Finished()
    try:
        state = read_json(folder / "seeds.json")
        weights = load_file(folder / "weights.safetensors")
        facts, progress = state["best"], Progress()
        check_position(facts["position"])
        progress.restore(facts["position"])
        model = setup.new_model(int(facts["seed"]))
        merge_adapters(model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
    except (OSError, SafetensorError, *MISFITS) as error:
        raise ModelError(f"{folder} is damaged ({error}); delete it to train its seeds again") from error
    best = evaluate_trained(setup, model, seed=facts["seed"], best_step=facts["best_step"], progress=progress)
    note(f"seeds {', '.join(str(one['seed']) for one in state['seen'])} are done")
    return Finished(state["seen"], best)


def delete_checkpoints(folder: Path) -> None:
    """Delete the checkpoints of a run or a seed that is done."""
    remove(folder / "checkpoints")
