"""Measures how long steps wait for checkpoints, and how soon after --resume the first new step is made.

    python benchmarks/checkpoint_stall.py DATA --size base --minutes 8 --every 2 --out stall.json
    python benchmarks/checkpoint_stall.py DATA --size mini --resumes 3

The run is of recipe classic. What is told: the share of the run that steps waited for copies of the state (result.json
has it of every run), the median step while a checkpoint was being written and otherwise, which shows what the writing
takes from the step it runs beside, the bytes of a checkpoint and of the state kept in memory. A resumed run begins with
the command and ends with its first new step; it is in processes of its own, compiled graphs kept from the first run.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal

from bertwright.device import machine, pick_device, versions
from bertwright.files import human_bytes, write_json
from bertwright.log import Facts, print_blocks
from bertwright.train.callbacks.base import StepReport
from bertwright.train.callbacks.save import CheckpointCallback
from bertwright.verbs.pretrain import pretrain


def measure_stall(
    data: Path,
    run: Path,
    *,
    size: str,
    minutes: float,
    every: float,
    recipe: str | None = None,
    rows: int = 16,
    compiled: bool | Literal["auto"] = "auto",
) -> dict[str, Any]:
    """Train for some minutes with a checkpoint every few; return how long steps waited, and how long they took."""
    times: dict[bool, list[float]] = {True: [], False: []}
    usual, last = CheckpointCallback.on_step, [0.0]

    def on_step(self: CheckpointCallback, report: StepReport) -> None:
        now = time.perf_counter()
        if last[0] and "valid" not in report.notes:
            times[self.saver.busy].append(now - last[0])
        usual(self, report)
        last[0] = time.perf_counter()

    CheckpointCallback.on_step = on_step  # type: ignore[method-assign]
    settings = {
        "size": size,
        "schedule": {"minutes": minutes, "phases": [{"length": 128, "rows": rows, "share": 1.0}]},
        "engine": {"compile": compiled, "checkpoint_minutes": every, "evaluations": 1, "evaluation_rows": 64},
    }
    figures = pretrain(data, run, recipe=recipe, settings=settings)
    newest = max((run / "checkpoints").glob("step-*"), key=lambda path: path.stat().st_mtime)
    size_on_disk = sum(path.stat().st_size for path in newest.rglob("*") if path.is_file())
    return {
        "size": size,
        "steps": figures["steps"],
        "seconds": figures["seconds"],
        "checkpoints": figures["checkpoints"],
        "stalled_share": round(figures["checkpoints"]["stalled_seconds"] / figures["seconds"], 5),
        "median_step_while_writing": round(median(times[True]), 4) if times[True] else None,
        "median_step_otherwise": round(median(times[False]), 4),
        "steps_while_writing": len(times[True]),
        "last_checkpoint_bytes": size_on_disk,
    }


def measure_resume(data: Path, run: Path, *, size: str, times: int) -> list[float]:
    """Stop a run again and again, and return the seconds from each --resume to the first new step."""
    words = ["pretrain", "--data", data, "--out", run, "--size", size, "--steps", 100_000, "--engine.log-every", 1]
    words += ["--schedule.phases", "[{length = 128, rows = 32, share = 1.0}]"]
    took = []
    for turn in range(times + 1):
        resume = ["--resume"] if turn else []
        lines = line_count(run)
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "bertwright", *map(str, words), *resume])
        while process.poll() is None and line_count(run) <= lines:
            time.sleep(0.005)
        took.append(time.perf_counter() - began)
        process.terminate()
        if process.wait() != 143:
            raise SystemExit("the run failed, or did not stop as it was told to")
    return took


def line_count(run: Path) -> int:
    """Return how many whole lines metrics.jsonl has."""
    file = run / "metrics.jsonl"
    return len(re.findall(b"\n", file.read_bytes())) if file.is_file() else 0


def main() -> None:
    """Read the words of the call, measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--size", default="base")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--every", type=float, default=2.0)
    parser.add_argument("--resumes", type=int, default=0, help="measure so many resumes instead of the stall")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        if given.resumes:
            took = measure_resume(given.data, run, size=given.size, times=given.resumes)
            figures: dict[str, Any] = {
                "size": given.size,
                "seconds_to_first_step": round(took[0], 2),
                "seconds_from_resume_to_first_new_step": [round(seconds, 2) for seconds in took[1:]],
            }
        else:
            figures = measure_stall(given.data, run, size=given.size, minutes=given.minutes, every=given.every)
    shown = {name.replace("_", " "): str(value) for name, value in figures.items()}
    if "last_checkpoint_bytes" in figures:
        shown["last checkpoint bytes"] = human_bytes(figures["last_checkpoint_bytes"])
    print_blocks(Facts("checkpoints beside the step", shown))
    if given.out is not None:
        write_json(given.out, {**figures, "machine": machine(pick_device()), "versions": versions()})


if __name__ == "__main__":
    main()
