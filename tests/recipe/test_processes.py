"""Runs of several processes: the same losses as one, checkpoints for any number, and none lost with a worker."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertwright.reports.pretrain_result import TIMED_IN_LINES
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

pytestmark = pytest.mark.slow

TIMED = {*TIMED_IN_LINES, "samples"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small corpus of fixed phrases."""
    folder = tmp_path_factory.mktemp("corpus")
    animals = ["cat", "dog", "horse", "owl", "crow", "fox"]
    documents = [
        " ".join(f"The {animals[n % 6]} number {n} sees the {animals[n % 5]} near river {line}." for line in range(9))
        for n in range(120)
    ]
    (folder / "animals.txt").write_text("\n\n".join(documents), encoding="utf-8")
    prepare([str(folder / "animals.txt")], folder / "data", vocab_size=512, valid_fraction=0.1)
    return folder / "data"


def words(data: Path, out: Path, recipe: str, *more: str) -> list[str]:
    """Return a call of pretrain of 12 steps, logged each, with two phases."""
    return [
        *("pretrain", "--data", str(data), "--out", str(out), "--recipe", recipe, "--size", "tiny", "--steps", "12"),
        *("--engine.compile", "false", "--engine.precision", "fp32", "--engine.log-every", "1"),
        *("--engine.evaluations", "2", "--engine.evaluation-rows", "64", "--engine.checkpoint-steps", "3", *more),
    ]


SETTINGS: dict[str, Any] = {
    "size": "tiny",
    "schedule": {"steps": 12},
    "engine": {
        "compile": False,
        "precision": "fp32",
        "log_every": 1,
        "evaluations": 2,
        "evaluation_rows": 64,
        "checkpoint_steps": 3,
    },
}


def torchrun(*call: str, restarts: int = 0, processes: int = 2) -> subprocess.Popen[str]:
    """Start a command of bertwright in several processes on this machine, one thread each."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--max-restarts"]
    return subprocess.Popen(
        [sys.executable, *launch, str(restarts), "-m", "bertwright", *call],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def lines(run: Path) -> Iterator[dict[str, float]]:
    """Yield the figures of each line of a run's metrics, evaluations among them."""
    for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        yield {**{n: v for n, v in line.items() if n not in TIMED and n != "valid"}, **line.get("valid", {})}


def same(run: Path, other: Path) -> None:
    """Compare two runs: every figure of every line to 1e-5, the gradient norm to 1e-4, and the weights."""
    ours, theirs = list(lines(run)), list(lines(other))
    assert [line["step"] for line in ours] == [line["step"] for line in theirs] == list(range(1, 13))
    for line, expected in zip(ours, theirs, strict=True):
        assert line.pop("gradient_norm") == pytest.approx(expected.pop("gradient_norm"), rel=1e-4)
        assert line == pytest.approx(expected, rel=1e-5, abs=2e-6)
    models = [folder.name for folder in sorted(other.glob("model*"))]
    assert models == [folder.name for folder in sorted(run.glob("model*"))]
    for model in models:
        weights = load_file(other / model / "model.safetensors")
        for name, tensor in load_file(run / model / "model.safetensors").items():
            torch.testing.assert_close(tensor, weights[name], atol=1e-5, rtol=1e-3)


def cut_back(run: Path, copy: Path, *, step: int) -> Path:
    """Return a copy of a run as it was after a step."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("model*", "result.json", "report.html", ".lock"))
    for folder in (copy / "checkpoints").iterdir():
        if folder.name != f"step-{step}":
            shutil.rmtree(folder)
    return copy


def test_two_sharded_processes_go_on_with_the_run_of_one_and_one_with_theirs(data: Path, tmp_path: Path) -> None:
    """Muon, all heads, a moving mask rate, averaged weights; sharded (fsdp) from step 6, one process from step 9."""
    average = {"name": "ema", "share": 0.5}
    pairs = {"names": ["span", "nsp"], "options": {"span": {"boundary": True}}}
    settings = {**SETTINGS, "average": average, "objective": pairs, "engine": {**SETTINGS["engine"], "keep": 9}}
    pretrain(data, tmp_path / "one", recipe="fast", settings=settings)
    two = cut_back(tmp_path / "one", tmp_path / "two", step=6)
    process = torchrun("pretrain", "--data", str(data), "--out", str(two), "--resume", "--engine.parallel", "fsdp")
    _, output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert output.count("from step 6") == 1
    same(two, tmp_path / "one")
    assert {p.name for p in (two / "checkpoints" / "step-9").glob("*")} >= {
        "manifest.json",
        "position.json",
        "shard-00001-model-00001-of-00001.safetensors",
        "shard-00002-model-00001-of-00001.safetensors",
    }
    again = cut_back(two, tmp_path / "again", step=9)
    pretrain(data, again, resume=True)
    same(again, tmp_path / "one")


def worker(launcher: subprocess.Popen[str], rank: int) -> int:
    """Return the number of the process of a rank that a torchrun has started."""
    for folder in Path("/proc").iterdir():
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher.pid and f"RANK={rank}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                return int(folder.name)
        except (OSError, ValueError):
            continue
    raise AssertionError(f"no worker of rank {rank}")


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the worker in /proc")
def test_a_killed_worker_is_started_again_and_the_run_goes_on_from_its_checkpoint(data: Path, tmp_path: Path) -> None:
    """Sentence pairs, dropout and AdamW in two whole copies of the weights; kill -9 of the second one at step 4."""
    phases = [{"length": 128, "rows": 32, "share": 0.9}, {"length": 160, "rows": 16, "share": 0.1}]
    settings = {**SETTINGS, "schedule": {**SETTINGS["schedule"], "phases": phases}}
    pretrain(data, tmp_path / "one", recipe="classic", settings=settings)
    (tmp_path / "classic.toml").write_text((tmp_path / "one" / "config.toml").read_text(encoding="utf-8"))
    two = tmp_path / "two"
    process = torchrun(*words(data, two, str(tmp_path / "classic.toml")), restarts=1)
    while not ((two / "checkpoints" / "step-3").exists() and (two / "metrics.jsonl").read_text().count("\n") > 3):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    os.kill(worker(process, 1), signal.SIGKILL)
    _, output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    assert "from step" in output
    same(two, tmp_path / "one")


@pytest.mark.parametrize(
    ("architecture", "names", "causal", "parallel"),
    [("electra", ["rtd"], False, "ddp"), ("bert", ["uncertain", "nsp"], True, "zero1")],
)
def test_two_processes_draw_by_the_weights_what_one_draws(
    architecture: str, names: list[str], causal: bool, parallel: str, data: Path, tmp_path: Path
) -> None:
    """What a generator writes and the masks of an uncertain model are those of the whole batch, in each process.

    With zero1, each goes on with its share of the moments of one, and one with those of both.
    """
    phases = [{"length": 32, "rows": 8, "share": 0.5, "causal": causal}, {"length": 32, "rows": 8, "share": 0.5}]
    settings = {
        **SETTINGS,
        "model": {"architecture": architecture, "dropout": 0.0, "attention_dropout": 0.0},
        "objective": {"names": names},
        "schedule": {"steps": 12, "phases": phases},
    }
    pretrain(data, tmp_path / "one", recipe="classic", settings=settings)
    two = cut_back(tmp_path / "one", tmp_path / "two", step=3)
    process = torchrun("pretrain", "--data", str(data), "--out", str(two), "--resume", "--engine.parallel", parallel)
    _, output = process.communicate(timeout=300)
    assert process.returncode == 0, output
    same(two, tmp_path / "one")
    again = cut_back(two, tmp_path / "again", step=9)
    pretrain(data, again, resume=True)
    same(again, tmp_path / "one")
