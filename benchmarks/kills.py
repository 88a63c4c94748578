"""Kills a run with SIGKILL at random moments, resumes it each time, and compares its end with that of a run left alone.

    python benchmarks/kills.py DATA --kills 50 --out kills.json

The run is of size tiny, 300 steps, on one thread, uncompiled (--compile for the other), a checkpoint every 7 steps.
Moments are drawn: while it sets up, while it trains, while a checkpoint is written. Final weights, metrics.jsonl and
result.json must be the same, but for the fields that tell how long things took. Each life is a process of its own,
forked from one that has imported everything, which saves the seconds of that.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from bertwright.cli.main import main as bertwright
from bertwright.device import machine, versions
from bertwright.log import Facts, print_blocks
from bertwright.reports.pretrain_result import TIMED, TIMED_IN_LINES

KINDS = ("early", "training", "writing")
"""Kinds of moments, in turn."""
FIRST_SECONDS = 2.0
"""A life's beginning: data, model, the first steps."""
PHASES = "[{length = 64, rows = 8, share = 0.8}, {length = 128, rows = 4, share = 0.2}]"
CONTEXT = multiprocessing.get_context("forkserver")
PARTIAL = ".step-*.partial"
"""A checkpoint that was being written when the process was killed."""


@dataclass
class Killed:
    """What happened to a run that was killed again and again."""

    kills: int = 0
    at_end: int = 0
    """Times the run ended by itself before the moment came."""
    inside_checkpoint: int = 0
    before_first_checkpoint: int = 0
    steps: list[int] = field(default_factory=list)
    """Of the newest checkpoint at each kill."""


def command(data: Path, run: Path, settings: list[str], *, steps: int) -> list[str]:
    """Return the words that start a run."""
    words = ["pretrain", "--data", data, "--out", run, "--recipe", "classic-muon", "--size", "tiny", "--steps", steps]
    return [str(word) for word in words] + settings


def life(words: list[str], run: Path) -> BaseProcess:
    """Start a process that begins a run, or goes on with it."""
    resume = ["--resume"] if (run / "config.toml").is_file() else []
    run.parent.mkdir(parents=True, exist_ok=True)
    started = CONTEXT.Process(target=live, args=([*words, *resume], run.parent / "told.txt"))
    started.start()
    return started


def live(words: list[str], given: Path) -> None:
    """Run a command in this process, whatever it says put into a file."""
    torch.set_num_threads(1)
    with given.open("a", encoding="utf-8") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
        sys.exit(bertwright(words))


def whole(words: list[str], run: Path) -> float:
    """Let a run come to its end; return the seconds it took, and raise SystemExit with what it says where it fails."""
    began = time.perf_counter()
    process = life(words, run)
    process.join()
    refuse_failed(process, run)
    return time.perf_counter() - began


def refuse_failed(process: BaseProcess, run: Path) -> None:
    """Raise SystemExit where a process that was not killed failed."""
    if process.exitcode:
        raise SystemExit(f"the run failed by itself: {(run.parent / 'told.txt').read_text(encoding='utf-8')}")


def kill_and_resume(words: list[str], run: Path, *, kills: int, steps: int, chance: random.Random) -> Killed:
    """Start a run, kill it at a random moment, resume it, and so on `kills` times; then let it end.

    One moment in three is any time of a life's first seconds. The others come when the run has reached a step, drawn
    for each kill: one after up to half a second, the other as soon as a checkpoint is being written.
    """
    killed = Killed()
    targets = sorted(chance.randrange(steps) for _ in range(kills))
    while killed.kills < kills:
        kind, target = KINDS[killed.kills % 3], targets[killed.kills]
        process = life(words, run)
        ended = wait_for_moment(process, run, kind, target=target, chance=chance)
        if ended:
            refuse_failed(process, run)
        process.kill()
        process.join()
        killed.kills += 1
        killed.at_end += ended
        killed.inside_checkpoint += any((run / "checkpoints").glob(PARTIAL))
        killed.before_first_checkpoint += not newest(run)
        killed.steps.append(newest(run))
    whole(words, run)
    return killed


def wait_for_moment(process: BaseProcess, run: Path, kind: str, *, target: int, chance: random.Random) -> bool:
    """Wait until the process is to be killed; return whether it ended by itself before."""
    moment = time.monotonic() + chance.uniform(0, FIRST_SECONDS)
    reached = False
    while process.is_alive():
        now = time.monotonic()
        if kind != "early" and not reached and newest(run) >= target:
            reached, moment = True, now + chance.uniform(0, 0.5)
        if kind == "writing" and reached and any((run / "checkpoints").glob(PARTIAL)):
            return False
        if kind != "writing" and now >= moment and (reached or kind == "early"):
            return False
        time.sleep(0.0005)
    return True


def newest(run: Path) -> int:
    """Return the step of the newest checkpoint, 0 where there is none."""
    return max((int(path.name[5:]) for path in (run / "checkpoints").glob("step-*")), default=0)


def compare(left: Path, right: Path) -> dict[str, bool]:
    """Say of each of the three things whether it is the same in two runs."""
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (left, right))
    lines = [timeless_lines(run) for run in (left, right)]
    results = [timeless(json.loads((run / "result.json").read_text()), TIMED) for run in (left, right)]
    return {
        "weights": ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours),
        "metrics.jsonl": lines[0] == lines[1],
        "result.json": results[0] == results[1],
    }


def timeless_lines(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl without what tells how long things took."""
    return [timeless(json.loads(line), TIMED_IN_LINES) for line in (run / "metrics.jsonl").read_text().splitlines()]


def timeless(figures: dict[str, Any], timed: tuple[str, ...]) -> dict[str, Any]:
    """Return figures without what tells how long things took."""
    return {name: value for name, value in figures.items() if name not in timed}


def trial(
    data: Path, scratch: Path, settings: list[str], *, steps: int, kills: int, seed: int
) -> tuple[Killed, float, dict[str, bool]]:
    """Make a run that is left alone and one that is killed; return how that went, the seconds of one, and what is same.

    `scratch` is a folder for both.
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    CONTEXT.set_forkserver_preload(["torch", "bertwright.verbs.pretrain"])
    alone, killed = scratch / "alone" / "run", scratch / "killed" / "run"
    seconds = whole(command(data, alone, settings, steps=steps), alone)
    words = command(data, killed, settings, steps=steps)
    given = kill_and_resume(words, killed, kills=kills, steps=steps, chance=random.Random(seed))
    return given, seconds, compare(alone, killed)


def main() -> None:
    """Read the words of the call, run, print a table, write JSON; exit with 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    settings = ["--engine.compile", str(given.compile).lower(), "--engine.checkpoint-steps", "7"]
    settings += ["--engine.log-every", "5", "--engine.evaluations", "6", "--engine.evaluation-rows", "64"]
    settings += ["--schedule.phases", PHASES]
    with tempfile.TemporaryDirectory() as scratch:
        found, seconds, same = trial(
            given.data, Path(scratch), settings, steps=given.steps, kills=given.kills, seed=given.seed
        )
    figures = {
        "steps": given.steps,
        "compiled": given.compile,
        "kills": found.kills - found.at_end,
        "inside_a_checkpoint": found.inside_checkpoint,
        "before_the_first_checkpoint": found.before_first_checkpoint,
        "newest_checkpoint_at_each_kill": found.steps,
        "seconds_of_the_run_left_alone": round(seconds, 1),
        "same": same,
        "machine": machine(torch.device("cpu")),
        "versions": versions(),
    }
    if given.out is not None:
        given.out.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    shown = {name: str(value) for name, value in figures.items() if name not in ("machine", "versions")}
    print_blocks(
        Facts("killed and resumed", {**shown, **{name: "the same" if one else "ANOTHER" for name, one in same.items()}})
    )
    raise SystemExit(not all(same.values()))


if __name__ == "__main__":
    main()
