"""What may happen to a run of days: kills, signals, full disks, damaged files, losses that burst; nothing is lost."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.checksums import damage
from bertwright.cli.main import main
from bertwright.errors import (
    BusyError,
    DataError,
    DiskSpaceError,
    Interrupted,
    Terminated,
    TrainingError,
)
from bertwright.files import locked
from bertwright.reports.pretrain_result import TIMED, TIMED_IN_LINES
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.train.checkpoint.folder import MANIFEST, checkpoints, newest_whole
from bertwright.train.state import TrainState
from bertwright.train.step import Engine, Gradient
from bertwright.verbs.pretrain import pretrain

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "size": "tiny",
    "schedule": {
        "steps": 24,
        "phases": [{"length": 32, "rows": 8, "share": 0.75}, {"length": 64, "rows": 4, "share": 0.25}],
    },
    "average": {"name": "ema"},
    "guard": {"every": 4, "steps": 3, "failures": 2},
    "engine": {
        "compile": False,
        "precision": "fp32",
        "log_every": 5,
        "evaluations": 3,
        "evaluation_rows": 64,
        "checkpoint_steps": 7,
    },
}


def told(run: Path) -> tuple[dict[str, Any], list[Any], dict[str, Any]]:
    """Return what must be the same of two runs of a seed: weights as bytes, lines of metrics, result."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in line.items() if name not in TIMED_IN_LINES} for line in lines]
    result = json.loads((run / "result.json").read_text())
    weights = load_file(run / "model" / "model.safetensors")
    held = {name: tensor.numpy().tobytes() for name, tensor in weights.items()}
    return held, timeless, {name: value for name, value in result.items() if name not in TIMED}


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run nothing happens to."""
    run = tmp_path_factory.mktemp("alone") / "run"
    pretrain(data, run, settings=SMALL)
    return run


@pytest.fixture
def at_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Return what makes something happen just before a step is made, or a step fail."""
    usual = Engine.gradient
    happenings: dict[int, Callable[[], object]] = {}

    def call(self: Engine, state: TrainState, *args: Any, **given: Any) -> Gradient:
        happenings.pop(state.progress.step, lambda: None)()
        return usual(self, state, *args, **given)

    monkeypatch.setattr(Engine, "gradient", call)
    yield lambda step, happening: happenings.update({step: happening})
    monkeypatch.setattr(Engine, "gradient", usual)


@pytest.mark.parametrize(
    ("number", "error", "code"), [(signal.SIGINT, Interrupted, 130), (signal.SIGHUP, Terminated, 143)]
)
def test_a_signal_saves_and_stops(
    data: Path, tmp_path: Path, alone: Path, at_step: Any, number: int, error: type[Interrupted], code: int
) -> None:
    """At a step that is no checkpoint's: the state to go back to is of another step, and saved with it."""
    if signal.getsignal(number) == signal.SIG_IGN:  # tests started by nohup: there a run would go on
        signal.signal(number, signal.SIG_DFL)
    before = signal.getsignal(number)
    at_step(9, lambda: os.kill(os.getpid(), number))
    with pytest.raises(error, match=r"step 10.*step-10.*--resume") as caught:
        pretrain(data, tmp_path / "run", settings=SMALL)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before
    assert (tmp_path / "run" / "checkpoints" / "step-10" / "good" / "weights.safetensors").is_file()
    pretrain(data, tmp_path / "run", settings=SMALL, resume=True)
    assert told(tmp_path / "run") == told(alone)


def test_a_signal_that_comes_while_the_processes_agree_is_heard_after_the_next_step(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too late for this step's question, not lost for the next one's."""
    usual, calls = CheckpointCallback._agreed, 0

    def agreed(self: CheckpointCallback, due: bool) -> tuple[bool, int | None]:
        nonlocal calls
        answer, calls = usual(self, due), calls + 1
        if calls == 9:
            os.kill(os.getpid(), signal.SIGINT)
        return answer

    monkeypatch.setattr(CheckpointCallback, "_agreed", agreed)
    with pytest.raises(Interrupted, match="step 10"):
        pretrain(data, tmp_path / "run", settings=SMALL)


def test_a_signal_in_an_evaluation_does_not_wait_for_it(
    data: Path, tmp_path: Path, alone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluation is left half done, and made on resuming: no figure of it is lost."""
    from bertwright.objectives.combine import CombinedObjective

    usual, evaluated = CombinedObjective.loss, 0

    def loss(self: CombinedObjective, scores: Any, example: Any) -> Any:
        nonlocal evaluated
        if not torch.is_grad_enabled():
            evaluated += 1
            if evaluated == 6:
                os.kill(os.getpid(), signal.SIGTERM)
        return usual(self, scores, example)

    monkeypatch.setattr(CombinedObjective, "loss", loss)
    with pytest.raises(Terminated, match="step 16"):
        pretrain(data, tmp_path / "run", settings=SMALL)
    assert evaluated == 6  # two batches each time, by the weights and by their mean: half of the second evaluation
    pretrain(data, tmp_path / "run", settings=SMALL, resume=True)
    assert told(tmp_path / "run") == told(alone)


SLOW = """
import sys, time
from bertwright.train.checkpoint import saver
from bertwright.cli.main import main
saver.Saver._write = lambda *_: (print("saving", flush=True), time.sleep(100))
sys.exit(main(sys.argv[1:]))
"""


def test_a_second_signal_leaves_at_once(data: Path, tmp_path: Path) -> None:
    """Even while the first one's checkpoint is being written, to a disk that takes its time."""
    words = ["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), "--size", "tiny", "--steps", "9999"]
    words += ["--engine.compile", "false", "--engine.checkpoint-steps", "2"]
    process = subprocess.Popen([sys.executable, "-c", SLOW, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"saving\n"
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == -signal.SIGTERM
    process.communicate()


def test_kills_at_random_moments(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three of the fifty of benchmarks/kills.py: while it sets up, while it trains, while it writes a checkpoint."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import kills

    settings = ["--engine.compile", "false", "--engine.checkpoint-steps", "3", "--engine.log-every", "2"]
    settings += ["--schedule.phases", "[{length = 32, rows = 8, share = 1.0}]", "--engine.evaluations", "1"]
    killed, _, same = kills.trial(data, tmp_path, settings, steps=20, kills=3, seed=5)
    assert killed.kills - killed.at_end >= 2
    assert same == {"weights": True, "metrics.jsonl": True, "result.json": True}


def test_a_damaged_checkpoint_is_passed_over(
    data: Path, tmp_path: Path, alone: Path, at_step: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    at_step(16, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Terminated):
        pretrain(data, tmp_path / "run", settings=SMALL)
    weights = tmp_path / "run" / "checkpoints" / "step-17" / "weights.safetensors"
    os.truncate(weights, weights.stat().st_size // 2)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 20, "los')
    pretrain(data, tmp_path / "run", settings=SMALL, resume=True)
    output = capsys.readouterr().err
    assert "weights.safetensors has" in output
    assert "damaged-step-17" in output
    assert "from step 14" in output
    assert told(tmp_path / "run") == told(alone)


def test_a_run_without_a_checkpoint_starts_again(
    data: Path, tmp_path: Path, alone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Killed before its first checkpoint, it has its settings and a few lines of metrics."""
    (tmp_path / "run").mkdir()
    for name in ("config.toml", "metrics.jsonl"):
        shutil.copyfile(alone / name, tmp_path / "run" / name)
    pretrain(data, tmp_path / "run", settings=SMALL, resume=True)
    assert "from the beginning" in capsys.readouterr().err
    assert told(tmp_path / "run") == told(alone)


def test_a_run_in_use_is_refused(data: Path, tmp_path: Path, alone: Path) -> None:
    shutil.copytree(alone, tmp_path / "run")
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with locked(tmp_path / "run"):
        for resume in (True, False):
            with pytest.raises(BusyError, match=f"{os.getpid()}"):
                pretrain(data, tmp_path / "run", settings=SMALL, resume=resume)
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before


def test_data_that_changed_is_refused(data: Path, tmp_path: Path, alone: Path) -> None:
    """A shard with a bit flipped, and a whole DATA folder that is another one than the checkpoint's."""
    shutil.copytree(data, tmp_path / "data")
    shutil.copytree(alone, tmp_path / "run")
    manifest = json.loads((data / "manifest.json").read_text())
    shard = tmp_path / "data" / "train-00000.arrow"
    held = bytearray(shard.read_bytes())
    held[len(held) // 2] ^= 1
    shard.write_bytes(held)
    with pytest.raises(DataError, match=r"train-00000\.arrow"):
        pretrain(tmp_path / "data", tmp_path / "run", settings=SMALL, resume=True)
    manifest["splits"]["train"]["shards"][0]["sha256"] = "0" * 64
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest\.json"):
        pretrain(tmp_path / "data", tmp_path / "run", settings=SMALL, resume=True)


FULL_DISK = """
import os, subprocess, sys, threading, time
from pathlib import Path
disk, data = Path(sys.argv[1]), sys.argv[2]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", disk], check=True)
from bertwright.cli.main import main

def fill():
    while not list(disk.glob("run/checkpoints/step-2*")):
        time.sleep(0.01)
    with open(disk / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass

words = ["pretrain", "--data", data, "--size", "tiny", "--steps", "9999", "--engine.compile", "false"]
words += ["--schedule.phases", "[{length = 32, rows = 8, share = 1.0}]", "--engine.checkpoint-steps", "2"]
threading.Thread(target=fill, daemon=True).start()
print(main([*words, "--out", str(disk / "run")]))
from bertwright.train.checkpoint.folder import MANIFEST, checkpoints
from bertwright.checksums import damage
print([path.name for path in (disk / "run" / "checkpoints").iterdir() if path.name.startswith(".")])
print([damage(folder, MANIFEST) for folder in checkpoints(disk / "run")])
subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
print(main([*words, "--out", str(disk / "other")]))
"""


def test_a_full_disk_and_a_read_only_one(data: Path, tmp_path: Path) -> None:
    """On a disk of 64 MB of its own, which something else fills while the run writes its checkpoints."""
    (tmp_path / "disk").mkdir()
    new = ["unshare", "-Urm"]
    if not shutil.which("unshare") or subprocess.run([*new, "mount", "-t", "tmpfs", "x", tmp_path / "disk"]).returncode:
        pytest.skip("this machine lets nobody mount a disk in a namespace of their own")
    words = [*new, sys.executable, "-c", FULL_DISK, str(tmp_path / "disk"), str(data)]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=600)
    code, left, damages, read_only = ran.stdout.splitlines()
    assert (code, left, read_only) == ("1", "[]", "1")
    assert set(eval(damages)) == {None}
    output = [line for line in ran.stderr.splitlines() if line.startswith("bertwright: ")]
    assert re.search("disk is full.*--resume", output[0])
    assert "Read-only file system" in output[1]
    assert "Traceback" not in ran.stderr


def test_metrics_that_cannot_be_written(data: Path, tmp_path: Path, at_step: Any) -> None:
    """The system refuses longer files, as it would with a full disk, from step 16 on: what is saved stays whole."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step(16, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1])))
    try:
        with pytest.raises(DiskSpaceError, match=r"disk.*--resume"):
            pretrain(data, tmp_path / "run", settings={**SMALL, "engine": {**SMALL["engine"], "log_every": 1}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    newest = newest_whole(tmp_path / "run")
    assert newest is not None
    assert newest.name == "step-14"


def bad(at: range, *, happening: str) -> Callable[..., Gradient]:
    """Return steps that fail, or report a loss that burst, with the batches drawn at these numbers.

    A batch is known by its tokens, so that it is bad in any run that draws it.
    """
    usual = Engine.gradient
    seen: dict[bytes, int] = {}

    def call(self: Engine, state: TrainState, objective: Any, work: Any, **given: Any) -> Gradient:
        key = work[0][1].input_ids.numpy().tobytes()
        number = seen.setdefault(key, len(seen))
        found = usual(self, state, objective, work, **given)
        if number not in at:
            return found
        added = math.nan if happening == "nan" else 50.0
        values = torch.tensor([value + added * (name == "loss") for name, value in found.figures.items()])
        return Gradient(found.step, found.fraction, found.names, values)

    return call


@pytest.mark.parametrize(
    ("at", "happening", "skipped"),
    [(range(9, 10), "nan", 1), (range(13, 15), "nan", 3), (range(11, 14), "burst", 6)],
    ids=["a batch fails", "batches fail", "a burst"],
)
def test_a_run_that_goes_back_is_the_same_whenever_it_was_stopped(
    data: Path, tmp_path: Path, at_step: Any, monkeypatch: pytest.MonkeyPatch, at: range, happening: str, skipped: int
) -> None:
    """So is one whose figures are read a step late, as on a GPU."""
    monkeypatch.setattr("bertwright.train.loss_guard.SETTLED", 4)
    monkeypatch.setattr(Engine, "gradient", bad(at, happening=happening))
    figures = pretrain(data, tmp_path / "whole", settings=SMALL)
    assert figures["skipped"] == skipped
    assert figures["steps"] == 24
    steps = [line["step"] for line in told(tmp_path / "whole")[1]]
    assert steps == sorted(set(steps))
    for stop in (9, 13) if happening == "burst" else (12,):
        run = tmp_path / f"stopped-{stop}"
        with monkeypatch.context() as patch:
            inner, left = Engine.gradient, [stop]

            def call(self: Any, *args: Any, inner: Any = inner, left: Any = left, **given: Any) -> Any:
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGTERM)
                return inner(self, *args, **given)

            patch.setattr(Engine, "gradient", call)
            with pytest.raises(Terminated):
                pretrain(data, run, settings=SMALL)
        pretrain(data, run, settings=SMALL, resume=True)
        assert told(run) == told(tmp_path / "whole"), stop
    monkeypatch.setattr(Engine, "runs_ahead", lambda self, optimizers: True)
    pretrain(data, tmp_path / "ahead", settings=SMALL)
    assert told(tmp_path / "ahead") == told(tmp_path / "whole")


def test_a_run_that_cannot_go_on_gives_up(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "gradient", bad(range(10, 10_000), happening="nan"))
    with pytest.raises(TrainingError, match=r"step 8.*3 times.*saved"):
        pretrain(data, tmp_path / "run", settings=SMALL)
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step-7", "step-8"]
    assert not any(damage(path, MANIFEST) for path in checkpoints(tmp_path / "run"))


def test_a_held_run_at_the_terminal(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with locked(tmp_path / "run"):
        assert main(["pretrain", "--data", str(data), "--out", str(tmp_path / "run"), "--steps", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
