"""Checkpoints come back bit for bit, damaged ones are passed over, and those that are kept are the right ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from bertwright.errors import ModelError
from bertwright.train.checkpoint.folder import (
    Retention,
    best_valid_loss,
    checkpoints,
    newest_whole,
    read_checkpoint,
    retain,
    step_of,
    write_checkpoint,
    write_tensors,
)
from bertwright.train.checkpoint.snapshot import copy_state, restore
from bertwright.train.ema import EMA, AverageConfig
from bertwright.train.state import Progress, TrainState

IDENTITY = {"seed": 1}


def state_of(value: float, *, step: int, seconds: float = 0.0) -> TrainState:
    """A small model after one step of AdamW, its weights all `value`."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)
    average = EMA(model, AverageConfig(name="ema"))
    return TrainState(model, [optimizer], Progress(step=step, seconds=seconds, drawn=[step]), average)


def test_a_state_comes_back_and_stays_apart() -> None:
    one, other = state_of(1.0, step=4), state_of(2.0, step=9)
    state = copy_state(one)
    restore(other, state)
    assert other.progress == one.progress
    assert other.position() == one.position()
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))
    held = [t.clone() for tensors in state.tensors.values() for t in tensors.values()]
    other.model(torch.ones(1, 3)).sum().backward()
    other.optimizers[0].step()
    other.progress.drawn[0] = 7
    assert all(
        torch.equal(a, b) for a, b in zip(held, [t for f in state.tensors.values() for t in f.values()], strict=True)
    )
    assert state.facts["position"]["drawn"] == [4]


def test_a_state_before_the_first_step_forgets_the_moments() -> None:
    before = state_of(1.0, step=0)
    before.optimizers[0].state.clear()
    after = state_of(2.0, step=3)
    restore(after, copy_state(before))
    assert not after.optimizers[0].state


def test_a_checkpoint_comes_back_with_the_state_to_go_back_to(tmp_path: Path) -> None:
    state, good = copy_state(state_of(1.0, step=7)), copy_state(state_of(2.0, step=5))
    folder = write_checkpoint(tmp_path, state, identity=IDENTITY, good=good)
    read, back = read_checkpoint(folder, identity=IDENTITY)
    assert back is not None
    for ours, theirs in ((state, read), (good, back)):
        assert ours.step == theirs.step
        for file, tensors in ours.tensors.items():
            assert all(torch.equal(tensor, theirs.tensors[file][name]) for name, tensor in tensors.items())
    same = write_checkpoint(tmp_path, good, identity=IDENTITY, good=good)
    assert read_checkpoint(same, identity=IDENTITY)[1] is None
    with pytest.raises(ModelError, match=r"seed.*1.*2"):
        read_checkpoint(folder, identity={"seed": 2})


def test_tensor_files_are_safetensors(tmp_path: Path) -> None:
    tensors = {
        "matrix": torch.randn(5, 3),
        "half": torch.randn(7).to(torch.bfloat16),
        "scalar": torch.tensor(3.5),
        "whole": torch.arange(4),
        "none": torch.zeros(0, 2),
        "turned": torch.randn(4, 6).mT,
    }
    write_tensors(tmp_path / "a.safetensors", tensors)
    read = load_file(tmp_path / "a.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(tensor, read[name]) and tensor.dtype == read[name].dtype for name, tensor in tensors.items())


def flip(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[-1] ^= 1
    path.write_bytes(held)


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: flip(folder / "weights.safetensors"),
        lambda folder: flip(folder / "good" / "optimizer.safetensors"),
        lambda folder: (folder / "average.safetensors").write_bytes(b""),
        lambda folder: (folder / "position.json").unlink(),
        lambda folder: (folder / "manifest.json").unlink(),
    ],
)
def test_a_damaged_checkpoint_is_set_aside(
    tmp_path: Path, harm: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    good = copy_state(state_of(1.0, step=3))
    for step in (5, 7):
        write_checkpoint(tmp_path, copy_state(state_of(1.0, step=step)), identity=IDENTITY, good=good)
    (tmp_path / "checkpoints" / ".step-9.partial").mkdir()
    harm(tmp_path / "checkpoints" / "step-7")
    assert newest_whole(tmp_path) == tmp_path / "checkpoints" / "step-5"
    assert "damaged-step-7" in capsys.readouterr().err.replace("\n", " ")
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["damaged-step-7", "step-5"]
    harm(tmp_path / "checkpoints" / "step-5")
    with pytest.raises(ModelError, match="damaged"):
        newest_whole(tmp_path)


def test_no_checkpoint_is_no_damage(tmp_path: Path) -> None:
    assert newest_whole(tmp_path) is None


def saved(run: Path, step: int, **given: Any) -> Path:
    seconds = given.pop("seconds", 0.0)
    return write_checkpoint(run, copy_state(state_of(1.0, step=step, seconds=seconds)), identity={}, **given)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    for step, loss in ((10, 3.0), (20, 2.0), (30, 2.5), (40, None), (50, 2.2)):
        retain(tmp_path, saved(tmp_path, step, held_out=loss), Retention(newest=2, best=True))
    assert [step_of(folder) for folder in checkpoints(tmp_path)] == [20, 40, 50]
    assert best_valid_loss(tmp_path) == 2.0


def test_one_in_so_many_hours_is_kept(tmp_path: Path) -> None:
    for step in range(1, 12):
        retain(tmp_path, saved(tmp_path, step, seconds=step * 1800.0), Retention(newest=1, hours=2.0))
    assert [step_of(folder) for folder in checkpoints(tmp_path)] == [4, 8, 11]


def test_what_was_gone_back_from_goes(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        saved(tmp_path, step)
    retain(tmp_path, saved(tmp_path, 15), Retention(newest=2))
    assert [step_of(folder) for folder in checkpoints(tmp_path)] == [10, 15]
