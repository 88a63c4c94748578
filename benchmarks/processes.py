"""Turns one DATA folder into runs of 1, 2 and 4 processes, and tells how far their losses lie apart: relative to one's.

    PYTHONPATH=src python benchmarks/processes.py DATA --out FOLDER

Recipes classic (masks and pairs, dropout, AdamW) and fast (Muon, a mask rate that moves), ddp and fsdp, size tiny,
float32, 50 steps, gloo on this machine's CPU, each process with one thread. Then the checkpoint two processes made of
step 25 is gone on with by 1 and by 4.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

STEPS = 50
HALF = STEPS // 2
ENGINE = ["--engine.compile", "false", "--engine.precision", "fp32", "--engine.log-every", "1"]


def pretrain(processes: int, *words: str) -> None:
    """Run `bertwright pretrain` in so many processes."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    command = [sys.executable, *launch, "-m", "bertwright", "pretrain", *words]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)


def losses(run: Path) -> list[float]:
    """Return the loss of each step of a run."""
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, STEPS + 1))
    return [line["loss"] for line in lines]


def apart(run: Path, one: Path) -> float:
    """Return the largest difference of a step's loss from that of one process, relative to it."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses(run), losses(one), strict=True))


def half_of(run: Path, copy: Path) -> Path:
    """Return a copy of a run as it was after half its steps."""
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("model", "result.json", "report.html"))
    for folder in (copy / "checkpoints").iterdir():
        if folder.name != f"step-{HALF}":
            shutil.rmtree(folder)
    return copy


def compare(data: Path, out: Path) -> None:
    """Make all runs and print a line for each comparison."""
    for recipe in ("classic", "fast"):
        words = ["--data", str(data), "--recipe", recipe, "--size", "tiny", "--steps", str(STEPS), *ENGINE]
        words += ["--engine.checkpoint-steps", str(HALF), "--engine.keep", "9"]
        one = out / f"{recipe}-1"
        pretrain(1, "--out", str(one), *words)
        for parallel in ("ddp", "fsdp"):
            for processes in (2, 4):
                run = out / f"{recipe}-{parallel}-{processes}"
                pretrain(processes, "--out", str(run), "--engine.parallel", parallel, *words)
                print(f"{recipe}, {parallel}, {processes} processes: within {apart(run, one):.1e}", flush=True)
            for processes in (1, 4):
                run = half_of(out / f"{recipe}-{parallel}-2", out / f"{recipe}-{parallel}-2-then-{processes}")
                pretrain(processes, "--data", str(data), "--out", str(run), "--resume")
                print(
                    f"{recipe}, {parallel}, 2 processes to step {HALF}, then {processes}: within {apart(run, one):.1e}",
                    flush=True,
                )


if __name__ == "__main__":
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--out", type=Path, required=True)
    given = words.parse_args()
    compare(given.data, given.out)
