"""Whether and from which step a run is compiled: by its settings, data and device, or in minutes by its speed."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.data.pretraining.dataset import open_dataset
from bertwright.errors import Interrupted
from bertwright.nested import read_toml
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.setup import compiling
from bertwright.train.setup.assemble import build
from bertwright.train.setup.compiling import CompileCallback, CompilePlan, plan_of
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine, forward_loss_of
from bertwright.verbs.pretrain import pretrain

pytestmark = pytest.mark.slow

PHASE = {"length": 32, "rows": 8, "share": 1.0}


@dataclass
class Run:
    """A run of `fast` with these settings, at its beginning."""

    config: PretrainConfig
    state: TrainState
    loader: PretrainLoader
    objective: Any
    engine: Engine

    def plan(self, *, step: int) -> CompilePlan:
        return plan_of(self.config, self.loader, self.engine, step=step)

    @property
    def work(self) -> float:
        return self.loader.run_flops(peak=0.0, seconds=0.0)


def run_of(data: Path, schedule: dict[str, Any], group: Group = ALONE, **engine: Any) -> Run:
    settings = {"size": "tiny", "schedule": {"phases": [PHASE], **schedule}, "engine": {"precision": "fp32", **engine}}
    config = resolve("fast", settings)
    run = Run(config, *build(open_dataset([data]), config, fresh=False))
    run.engine.device, run.engine.group = torch.device("cpu"), group
    return run


def test_operations_decide_in_runs_that_are_not_of_minutes(data: Path) -> None:
    """Just below WORTH a run never compiles; above, it compiles from the step at which AHEAD operations are done."""
    step = run_of(data, {"steps": 1}).work
    most = int(compiling.WORTH["cpu"] / step)
    assert run_of(data, {"steps": int(0.99 * most)}).plan(step=0).start is None
    start = run_of(data, {"steps": int(1.01 * most)}).plan(step=0).start
    assert start is not None
    assert (start - 1) * step < 1.1 * compiling.AHEAD["cpu"]
    assert start * step > 0.9 * compiling.AHEAD["cpu"]
    assert 0 < start < most


def test_the_plan_is_the_same_wherever_a_run_goes_on(data: Path) -> None:
    long = run_of(data, {"steps": 10**7})
    assert long.plan(step=0) == long.plan(step=10**6)


def test_the_work_of_steps_tokens_and_epochs_is_the_same_for_the_same_rows(data: Path) -> None:
    steps = run_of(data, {"steps": 500})
    assert run_of(data, {"tokens": 500 * 8 * 32}).work == pytest.approx(steps.work)
    epochs = 500 * 8 / steps.loader.rows_per_epoch(0)
    assert run_of(data, {"epochs": epochs}).work == pytest.approx(steps.work)


def test_every_shape_of_batches_is_compiled_by_itself(data: Path) -> None:
    two = [{"length": 32, "rows": 8, "share": 0.5}, {"length": 64, "rows": 4, "share": 0.5}]
    one, more = run_of(data, {"steps": 1}), run_of(data, {"steps": 1, "phases": two})
    worth = [compiling.worth_compiling(run.loader, run.engine) for run in (one, more)]
    assert worth[1] == 2 * worth[0]


@pytest.mark.parametrize(("given", "start"), [(True, 0), (False, None)])
def test_what_was_given_is_obeyed(data: Path, given: bool, start: int | None) -> None:
    assert run_of(data, {"steps": 10**7}, compile=given).plan(step=5).start == start
    assert run_of(data, {"minutes": 0.1}, compile=given).plan(step=5).start == start


def test_the_step_in_config_toml_is_kept(data: Path) -> None:
    assert run_of(data, {"steps": 3}, compiled_from=2).plan(step=0).start == 2
    assert run_of(data, {"minutes": 99}, compiled_from=2).plan(step=7).start == 2


def test_several_processes_never_start_another(data: Path) -> None:
    second = Group(rank=1, size=2)
    assert run_of(data, {"steps": 10**7}, second).plan(step=0).start == 0
    assert run_of(data, {"steps": 10}, second).plan(step=0).start is None
    later = run_of(data, {"steps": 10}, second, compiled_from=7)
    assert later.plan(step=3).start is None
    assert later.plan(step=7).start == 7


@pytest.mark.parametrize(("seconds_a_step", "compiles"), [(0.001, True), (60.0, False)])
def test_the_speed_of_the_first_steps_decides_in_minutes(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_a_step: float, compiles: bool
) -> None:
    started = []
    monkeypatch.setattr(compiling, "is_kept", lambda *_: False)
    monkeypatch.setattr(compiling, "BackgroundCompiler", lambda *given: started.append(given))
    run = run_of(data, {"minutes": 60})
    callback = CompileCallback(
        data, tmp_path, run.config, run.state, run.loader, run.objective, run.engine, run.plan(step=0)
    )
    callback.begin()
    callback.start()
    assert not started
    for step in range(1, compiling.MEASURED + 2):
        progress = Progress(step=step, seconds=10 + step * seconds_a_step)
        callback.on_step(StepReport(progress, 0.0, 0, 1.0, last=False))
    assert bool(started) == compiles
    assert callback.done != compiles


def test_code_that_is_kept_is_read_at_once_in_minutes(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "is_kept", lambda *_: True)
    assert run_of(data, {"minutes": 60}).plan(step=0).start == 0
    assert run_of(data, {"minutes": 60}).plan(step=9).start == 9
    assert run_of(data, {"minutes": 0.5}).plan(step=0).start is None
    assert run_of(data, {"steps": 10}).plan(step=0).start is None


def stop_at(step: int) -> Any:
    """Return a checkpoint callback that saves as usual and dies after `step`, as a kill would."""
    usual = CheckpointCallback.on_step

    def callback(self: CheckpointCallback, report: StepReport) -> None:
        usual(self, report)
        if report.progress.step == step:
            raise KeyboardInterrupt

    return callback


class LateCompiler:
    """Stands in for the process that compiles: it has ended once it was asked so many times."""

    elapsed = 1.0
    asked = 6
    made = 0

    def __init__(self, *_: Any) -> None:
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

    def compiled(state: TrainState, loader: Any, objective: Any, engine: Engine, **_: Any) -> Any:
        usual = forward_loss_of(state.model, objective, engine.cast)

        def loss(example: Any) -> Any:
            ran.append(1)
            found = usual(example)
            return replace(found, total=found.total * 1.001)

        return loss

    monkeypatch.setattr(compiling, "BackgroundCompiler", LateCompiler)
    monkeypatch.setattr(compiling, "compiled_loss", compiled)
    monkeypatch.setattr(compiling, "mark_kept", lambda *_: None)
    return ran


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, int]]]:
    """Give torch three threads; return a list of (step, threads it runs on) that fills as steps run."""
    ran: list[tuple[int, int]] = []
    usual, before = Engine.forward_loss_at, torch.get_num_threads()

    def forward_loss_at(self: Engine, step: int, *given: Any) -> Any:
        ran.append((step, torch.get_num_threads()))
        return usual(self, step, *given)

    monkeypatch.setattr(Engine, "forward_loss_at", forward_loss_at)
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
    config = resolve("fast", settings)
    work = Run(config, *build(open_dataset([data]), config, fresh=False)).work
    monkeypatch.setattr(compiling, "WORTH", {"cpu": 0.9 * work})
    monkeypatch.setattr(compiling, "AHEAD", {"cpu": 0.55 * work})
    pretrain(data, tmp_path / "whole", recipe="fast", settings=settings)
    assert len(quick_compiler) == 4
    assert read_toml(tmp_path / "whole" / "config.toml")["engine"]["compiled_from"] == 6
    stopped = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertwright.train.callbacks.save.CheckpointCallback.on_step", stop_at(killed_after))
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
        patch.setattr(CompileCallback, "on_step", only_at(2, CompileCallback.on_step))
        with pytest.raises(Interrupted, match="step 2"):
            pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings, resume=True)
    assert len(quick_compiler) == 3


def only_at(step: int, usual: Any) -> Any:
    """Return a callback that does its work after one step alone."""

    def callback(self: Any, report: StepReport) -> None:
        if report.progress.step == step:
            usual(self, report)

    return callback


def test_a_compiler_that_fails_is_told_of_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real process, with a folder of data that is not there."""
    usual = compiling.BackgroundCompiler
    monkeypatch.setattr(compiling, "BackgroundCompiler", lambda _, *given: usual(tmp_path / "nothing", *given))
    settings = settings_of(3)
    settings["engine"]["compiled_from"] = 2
    pretrain(data, tmp_path / "run", recipe="fast", settings=settings)
    output = capsys.readouterr().err
    assert "uncompiled" in output
    assert str(tmp_path / "nothing") in output.replace("\n", "")


def test_a_process_that_cannot_be_started_is_told_of_and_the_run_goes_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_process(*_: Any) -> None:
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
    monkeypatch.setattr(compiling, "is_kept", lambda *_: False)
    monkeypatch.setattr(compiling, "WORTH", {"cpu": 0.0})
    monkeypatch.setattr(compiling, "MEASURED", 1)
    monkeypatch.setattr(LateCompiler, "working", lambda self: True)
    monkeypatch.setattr(CompileCallback, "_wait", lambda self, compiler: pytest.fail("it waited"))
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
    run = run_of(data, {"steps": 3})
    compiler = compiling.BackgroundCompiler(tmp_path / "nothing", run.config, run.engine)
    while compiler.working():
        time.sleep(0.1)
    failure = compiler.failure()
    compiler.stop()
    assert failure is not None
    assert "nothing" in failure
