"""Runs that keep the models of their way: which, that each is a whole model, and that keeping them changes nothing."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.errors import ConfigError
from bertwright.hub.encoder_folder import load_model
from bertwright.hub.snapshots import snapshots_in
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.model_snapshots import SnapshotCallback, snapshot_marks
from bertwright.train.state import Progress
from bertwright.verbs.pretrain import pretrain

SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 8, "phases": [{"length": 32, "rows": 8, "share": 1.0}]},
    "engine": {
        "compile": False,
        "precision": "fp32",
        "evaluations": 2,
        "evaluation_rows": 32,
        "checkpoint_steps": 3,
        "keep": 9,
    },
}


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(first: Path, second: Path) -> bool:
    ours, theirs = tensors_of(first), tensors_of(second)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_keeps_models_of_its_way_and_stays_what_it_was(data: Path, tmp_path: Path) -> None:
    plain, kept = tmp_path / "plain", tmp_path / "kept"
    pretrain(data, plain, recipe="classic", settings=SETTINGS)
    pretrain(data, kept, recipe="classic", snapshots=4, settings=SETTINGS)
    found = snapshots_in(kept / "snapshots")
    assert list(found) == [0, 1, 2, 4]
    assert same(plain / "model", kept / "model")
    assert not same(found[0], found[2])  # the first step of all has a rate of zero
    assert not same(found[4], kept / "model")
    assert not (plain / "snapshots").exists()
    assert load_model(found[2]).config == load_model(kept / "model").config
    resumed = tmp_path / "resumed"
    shutil.copytree(kept, resumed)
    for step in (6, 8):
        shutil.rmtree(resumed / "checkpoints" / f"step-{step}", ignore_errors=True)
    assert sorted(one.name for one in (resumed / "checkpoints").glob("step-*")) == ["step-3"]
    pretrain(data, resumed, resume=True)
    assert list(snapshots_in(resumed / "snapshots")) == [0, 1, 2, 4]
    assert same(resumed / "snapshots" / "step-4", found[4])
    assert same(resumed / "model", kept / "model")


def test_marks_that_one_step_passes_are_one_model_and_those_of_undone_steps_go(tmp_path: Path) -> None:
    saved: list[str] = []

    def save(folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        saved.append(folder.name)

    class State:
        progress = Progress()

    callback = SnapshotCallback(tmp_path, 6, save)
    callback.on_begin(State(), 0.0)  # type: ignore[arg-type]
    for step in (1, 2, 3, 4):
        callback.on_step(StepReport(Progress(step=step), step / 4, 0, 1.0, last=step == 4))
    assert saved == ["step-0", "step-1", "step-2"]
    State.progress = Progress(step=1)
    callback.on_begin(State(), 0.25)  # type: ignore[arg-type]
    assert list(snapshots_in(tmp_path)) == [0, 1]
    callback.on_step(StepReport(Progress(step=2), 0.5, 0, 1.0, last=False))
    assert saved[3:] == ["step-2"]


def test_marks_double() -> None:
    marks = snapshot_marks(8)
    assert (marks[0], marks[1], marks[-1]) == (0.0, 1 / 128, 0.5)
    assert all(later == 2 * earlier for earlier, later in pairwise(marks[1:]))


def test_less_than_one_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="snapshots"):
        pretrain(data, tmp_path / "run", snapshots=0, settings=SETTINGS)
