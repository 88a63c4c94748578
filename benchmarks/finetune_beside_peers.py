"""Measures fine-tuning speed beside the Hugging Face Trainer, in turn, on the same model and files: examples a second.

    python benchmarks/finetune_beside_peers.py --model DIR --task classify=sst2/train.tsv --task tag=wnut17/train.conll

The peers are `peers/finetune.py` at its best flags (bf16, grouped by length) and as its defaults are (`plain`: float32,
rows at random); ours is `bertwright bench finetune`. Every run is a process of its own of 32 rows a step; first steps
(warm-up, compilation) are left out on all sides. The sides take turns, and ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from commands import run

PEERS = Path(__file__).parent / "peers" / "finetune.py"


def peer_speed(options: argparse.Namespace, task: str, file: str, *, plain: bool) -> float:
    """Return examples a second of the Trainer."""
    words = ["--model", options.model, "--train", file, "--dev", file, "--steps", options.steps]
    given = run([options.peer_python, PEERS, task, *words, *(["--plain"] if plain else [])])
    return float(json.loads(given.splitlines()[-1])["examples_per_second"])


def our_speed(options: argparse.Namespace, task: str, file: str) -> float:
    """Return examples a second of ours."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "finetune.json"
        words = ["--model", options.model, "--train", file, "--steps", options.steps, "--out", out]
        run([sys.executable, "-m", "bertwright", "bench", "finetune", task, *words])
        return float(json.loads(out.read_text(encoding="utf-8"))["examples_per_second"])


def main() -> None:
    """Measure every side of every task in turn and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--task", action="append", required=True, help="TASK=FILE; may be given several times")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    report: dict[str, Any] = {"cores": os.cpu_count(), "examples_per_second": {}, "times_the_peer": {}}
    for given in options.task:
        task, _, file = given.partition("=")
        speeds: dict[str, list[float]] = {"plain": [], "tuned": [], "ours": []}
        for _ in range(options.turns):
            for name, values in speeds.items():
                if name == "ours":
                    speed = our_speed(options, task, file)
                else:
                    speed = peer_speed(options, task, file, plain=name == "plain")
                values.append(speed)
                print(f"{task} {Path(file).parent.name}, {name}: {speed:,.1f} examples/s", file=sys.stderr, flush=True)
        called = f"{task} {Path(file).parent.name}"
        medians = {name: statistics.median(values) for name, values in speeds.items()}
        report["examples_per_second"][called] = speeds
        report["times_the_peer"][called] = {
            name: round(medians["ours"] / value, 2) for name, value in medians.items() if name != "ours"
        }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
