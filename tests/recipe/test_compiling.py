"""Whether and from which step a run is compiled: by its settings, data and device, or in minutes by its speed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.config import read_toml
from bertwright.errors import Interrupted
from bertwright.train.callbacks.save import CheckpointListener
from bertwright.train.loop import Progress, StepReport
from bertwright.train.parallel.group import Group
from bertwright.train.setup import compiling
from bertwright.train.setup.compiling import CompileListener, plan_of
from bertwright.train.setup.evaluation_count import run_work
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.setup.run import Parts, build
from bertwright.train.step import TrainStep, forward_loss_of
from bertwright.verbs.pretrain import pretrain

PHASE = {"length": 32, "rows": 8, "share": 1.0}


def counted_work(parts: Parts) -> float:
    return run_work(parts, peak=0.0, seconds=0.0)


def parts_of(data: Path, schedule: dict[str, Any], **engine: Any) -> Parts:
    settings = {"size": "tiny", "schedule": {"phases": [PHASE], **schedule}, "engine": {"precision": "fp32", **engine}}
    parts = build(data, resolve("fast", settings), fresh=False)
    return replace(parts, device=torch.device("cpu"))


def test_operations_decide_in_runs_that_are_not_of_minutes(data: Path) -> None:
    """Just below WORTH a run never compiles; above, it compiles from the step at which AHEAD operations are done."""
    step = counted_work(parts_of(data, {"steps": 1}))
    most = int(compiling.WORTH["cpu"] / step)
    assert plan_of(parts_of(data, {"steps": int(0.99 * most)}), step=0).start is None
    start = plan_of(parts_of(data, {"steps": int(1.01 * most)}), step=0).start
    assert start is not None
    assert (start - 1) * step < 1.1 * compiling.AHEAD["cpu"]
    assert start * step > 0.9 * compiling.AHEAD["cpu"]
    assert 0 < start < most


def test_the_plan_is_the_same_wherever_a_run_goes_on(data: Path) -> None:
    long = parts_of(data, {"steps": 10**7})
    assert plan_of(long, step=0) == plan_of(long, step=10**6)


def test_the_work_of_steps_tokens_and_epochs_is_the_same_for_the_same_rows(data: Path) -> None:
    steps = parts_of(data, {"steps": 500})
    rows_per_epoch = steps.sources[0].rows_per_epoch
    work = counted_work(steps)
    assert counted_work(parts_of(data, {"tokens": 500 * 8 * 32})) == pytest.approx(work)
    assert counted_work(parts_of(data, {"epochs": 500 * 8 / rows_per_epoch})) == pytest.approx(work)


def test_every_shape_of_batches_is_compiled_by_itself(data: Path) -> None:
    two = [{"length": 32, "rows": 8, "share": 0.5}, {"length": 64, "rows": 4, "share": 0.5}]
    one, more = parts_of(data, {"steps": 1}), parts_of(data, {"steps": 1, "phases": two})
    assert compiling.worth_compiling(more) == 2 * compiling.worth_compiling(one)


@pytest.mark.parametrize(("given", "start"), [(True, 0), (False, None)])
def test_what_was_given_is_obeyed(data: Path, given: bool, start: int | None) -> None:
    assert plan_of(parts_of(data, {"steps": 10**7}, compile=given), step=5).start == start
    assert plan_of(parts_of(data, {"minutes": 0.1}, compile=given), step=5).start == start


def test_the_step_in_config_toml_is_kept(data: Path) -> None:
    assert plan_of(parts_of(data, {"steps": 3}, compiled_from=2), step=0).start == 2
    assert plan_of(parts_of(data, {"minutes": 99}, compiled_from=2), step=7).start == 2


def test_several_processes_never_start_another(data: Path) -> None:
    many = replace(parts_of(data, {"steps": 10**7}), group=Group(rank=1, size=2))
    assert plan_of(many, step=0).start == 0
    few = replace(parts_of(data, {"steps": 10}), group=Group(rank=1, size=2))
    assert plan_of(few, step=0).start is None
    later = replace(parts_of(data, {"steps": 10}, compiled_from=7), group=Group(rank=1, size=2))
    assert plan_of(later, step=3).start is None
    assert plan_of(later, step=7).start == 7


@pytest.mark.parametrize(("seconds_a_step", "compiles"), [(0.001, True), (60.0, False)])
def test_the_speed_of_the_first_steps_decides_in_minutes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_a_step: float, compiles: bool
) -> None:
    started = []
    monkeypatch.setattr(compiling, "is_kept", lambda parts: False)
    monkeypatch.setattr(compiling, "BackgroundCompiler", lambda data, parts: started.append(parts))
    parts = parts_of(data, {"minutes": 60})
    callback = CompileListener.begin(data, tmp_path, parts, step=0)
    callback.start(iter)
    assert not started
    for step in range(1, compiling.MEASURED + 2):
        callback(StepReport(Progress(step=step, seconds=10 + step * seconds_a_step), 0.0, 0, 1.0, last=False))
    assert bool(started) == compiles
    assert callback.done != compiles


def test_code_that_is_kept_is_read_at_once_in_minutes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "is_kept", lambda parts: True)
    assert plan_of(parts_of(data, {"minutes": 60}), step=0).start == 0
    assert plan_of(parts_of(data, {"minutes": 60}), step=9).start == 9
    assert plan_of(parts_of(data, {"minutes": 0.5}), step=0).start is None
    assert plan_of(parts_of(data, {"steps": 10}), step=0).start is None


def stop_at(step: int) -> Any:
    """Return a checkpoint callback that saves as usual and dies after `step`, as a kill would."""
    usual = CheckpointListener.__call__

    def callback(self: CheckpointListener, report: StepReport) -> None:
        usual(self, report)
        if report.position.step == step:
            raise KeyboardInterrupt

    return callback


class LateCompiler:
    """Stands in for the process that compiles: it has ended once it was asked so many times."""

    elapsed = 1.0
    asked = 6
    made = 0

    def __init__(self, data: Path, parts: Parts) -> None:
        self.left = self.asked
        type(self).made += 1

    def working(self) -> bool:
        self.left -= 1
        return self.left > 0

    def failure(self) -> str | None:
        return None

    def stop(self) -> None:
        pass


@pytest.fixture
def quick_compiler(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Compiled code that computes a little otherwise, as real one does in its last bits, and counts its steps."""
    ran: list[int] = []

    def compiled(parts: Parts) -> Any:
        usual = forward_loss_of(parts.model, parts.objective, parts.cast)

        def loss(example: Any) -> Any:
            ran.append(1)
            found = usual(example)
            return replace(found, total=found.total * 1.001)

        return loss

    monkeypatch.setattr(compiling, "BackgroundCompiler", LateCompiler)
    monkeypatch.setattr(compiling, "compiled_loss", compiled)
    monkeypatch.setattr(compiling, "mark_kept", lambda parts: None)
    return ran


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Give torch three threads; return a list of (step, threads it runs on) that fills as steps run."""
    ran: list[tuple[int, int]] = []
    usual, before = TrainStep.forward_loss_at, torch.get_num_threads()

    def forward_loss_at(self: TrainStep, step: int) -> Any:
        ran.append((step, torch.get_num_threads()))
        return usual(self, step)

    monkeypatch.setattr(TrainStep, "forward_loss_at", forward_loss_at)
    torch.set_num_threads(3)
    yield ran
    torch.set_num_threads(before)


def settings_of(steps: int) -> dict[str, Any]:
    engine = {"precision": "fp32", "log_every": 2, "evaluations": 1, "evaluation_rows": 32, "checkpoint_steps": 3}
    return {"size": "tiny", "schedule": {"steps": steps, "phases": [PHASE]}, "engine": engine}


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize(("killed_after", "requested"), [(4, 6), (6, 20), (8, 2)])
def test_a_run_stopped_before_at_or_after_the_change_ends_as_one_never_stopped(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_compiler: list[int],
    threads: list[tuple[int, int]],
    killed_after: int,
    requested: int,
) -> None:
    """Of 10 steps those from 6 on are compiled, whether the compiler is early or late; checkpoints at 3, 6 and 9.

    Until then steps run on one thread fewer.
    """
    monkeypatch.setattr(LateCompiler, "asked", requested)
    settings = settings_of(10)
    work = counted_work(build(data, resolve("fast", settings), fresh=False))
    monkeypatch.setattr(compiling, "WORTH", {"cpu": 0.9 * work})
    monkeypatch.setattr(compiling, "AHEAD", {"cpu": 0.55 * work})
    pretrain(data, tmp_path / "whole", recipe="fast", settings=settings)
    assert len(quick_compiler) == 4
    assert read_toml(tmp_path / "whole" / "config.toml")["engine"]["compiled_from"] == 6
    stopped = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertwright.train.callbacks.save.CheckpointListener.__call__", stop_at(killed_after))
        with pytest.raises(KeyboardInterrupt):
            pretrain(data, stopped, recipe="fast", settings=settings)
    pretrain(data, stopped, recipe="fast", settings=settings, resume=True)
    never = settings | {"engine": settings["engine"] | {"compile": False}}
    pretrain(data, tmp_path / "never", recipe="fast", settings=never)
    whole, other = weights(tmp_path / "whole"), weights(stopped)
    assert all(torch.equal(tensor, other[name]) for name, tensor in whole.items())
    assert set(threads[:-10]) == {(step, 2 if step < 6 else 3) for step in range(10)}
    assert threads[-10:] == [(step, 3) for step in range(10)]
    assert not all(torch.equal(tensor, weights(tmp_path / "never")[name]) for name, tensor in whole.items())


def test_a_run_asked_to_stop_while_it_waits_saves_and_waits_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick_compiler: list[int]
) -> None:
    settings = settings_of(5)
    settings["engine"]["compiled_from"] = 2

    def asked_to_stop(self: LateCompiler) -> bool:
        signal.raise_signal(signal.SIGTERM)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LateCompiler, "working", asked_to_stop)
        patch.setattr(compiling.CompileListener, "__call__", only_at(2, compiling.CompileListener.__call__))
        with pytest.raises(Interrupted, match="step 2"):
            pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings, resume=True)
    assert len(quick_compiler) == 3


def only_at(step: int, usual: Any) -> Any:
    """Return a callback that hears of one step alone."""

    def callback(self: Any, report: StepReport) -> None:
        if report.position.step == step:
            usual(self, report)

    return callback


def test_a_compiler_that_fails_is_told_of_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real process, with a folder of data that is not there."""
    usual = compiling.BackgroundCompiler
    monkeypatch.setattr(compiling, "BackgroundCompiler", lambda data, parts: usual(tmp_path / "nothing", parts))
    settings = settings_of(3)
    settings["engine"]["compiled_from"] = 2
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    output = capsys.readouterr().err
    assert "uncompiled" in output
    assert str(tmp_path / "nothing") in output.replace("\n", "")


def test_a_process_that_cannot_be_started_is_told_of_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_process(data: Path, parts: Parts) -> None:
        raise OSError("no memory left")

    monkeypatch.setattr(compiling, "BackgroundCompiler", no_process)
    settings = settings_of(3)
    settings["engine"]["compiled_from"] = 2
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    assert "no memory" in capsys.readouterr().err


def test_a_run_of_minutes_never_waits_for_the_compiler(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick_compiler: list[int],
    threads: list[tuple[int, int]],
) -> None:
    """The compiler never ends; the steps that measure run on all threads, those beside it on one less."""
    made = LateCompiler.made
    monkeypatch.setattr(compiling, "is_kept", lambda parts: False)
    monkeypatch.setattr(compiling, "WORTH", {"cpu": 0.0})
    monkeypatch.setattr(compiling, "MEASURED", 1)
    monkeypatch.setattr(LateCompiler, "working", lambda self: True)
    monkeypatch.setattr(compiling.CompileListener, "_wait", lambda self, compiler: pytest.fail("it waited"))
    settings = settings_of(1)
    settings["schedule"] = {"minutes": 0.05, "phases": [PHASE]}
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    assert not quick_compiler
    assert LateCompiler.made == made + 1
    assert [ran for _, ran in threads] == [3, 3] + [2] * (len(threads) - 2)


def test_the_compiler_knows_no_module_of_the_current_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of that name would stand in for the json of Python, and the process would end at once."""
    (tmp_path / "json.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    compiler = compiling.BackgroundCompiler(tmp_path / "nothing", parts_of(data, {"steps": 3}))
    while compiler.working():
        time.sleep(0.1)
    failure = compiler.failure()
    compiler.stop()
    assert failure is not None
    assert "nothing" in failure
