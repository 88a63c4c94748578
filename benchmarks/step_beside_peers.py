"""Measures training speed beside the Hugging Face Trainer, in turn, on the same machine and data: tokens a second.

    python benchmarks/step_beside_peers.py --data DATA --recipe classic --turns 3 --out results/step-classic-mini.json

Peers are run by `peers/trainer.py`, in the environment of --peer-python where it is given; ours is `bertwright bench
step` on the recipe, with the settings that follow ours (`-- --objective.mask-rate 0.15`) and with its own padding, of
which only real tokens are counted. Every run is a process of its
own; first steps (warm-up, compilation) are left out on both sides; all sides have the same rows and length. The sides
take turns, and ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from commands import run

PEERS = Path(__file__).parent / "peers" / "trainer.py"


def peer_speed(options: argparse.Namespace, architecture: str, *, compiled: bool) -> float:
    """Return tokens a second of the Trainer."""
    words = ["--data", options.data, "--size", options.size, "--steps", options.steps, "--rows", options.rows]
    words += ["--architecture", architecture, *(["--compile"] if compiled else [])]
    given = run([options.peer_python, PEERS, *words])
    return float(json.loads(given.splitlines()[-1])["tokens_per_second"])


def our_speed(options: argparse.Namespace) -> tuple[float, float]:
    """Return tokens a second and MFU of the recipe."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "step.json"
        words = ["--data", options.data, "--size", options.size, "--steps", options.steps, "--recipe", options.recipe]
        words += options.settings
        phases = f"[{{ length = 128, rows = {options.rows}, share = 1.0 }}]"
        run([sys.executable, "-m", "bertwright", "bench", "step", *words, "--out", file, "--schedule.phases", phases])
        figures = json.loads(file.read_text(encoding="utf-8"))
    return figures["tokens_per_second"], figures["mfu"]


def main() -> None:
    """Measure every side in turn and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--recipe", default="classic")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peers", nargs="+", default=["bert"], help="bert, modernbert, bert-compiled, ...")
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    parser.add_argument("settings", nargs="*", help="after --: settings of our run")
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {name: [] for name in (*options.peers, "ours")}
    used: list[float] = []
    for _ in range(options.turns):
        for name, values in speeds.items():
            if name == "ours":
                speed, utilisation = our_speed(options)
                used.append(utilisation)
            else:
                speed = peer_speed(options, name.removesuffix("-compiled"), compiled=name.endswith("-compiled"))
            values.append(speed)
            print(f"{name}: {speed:,.0f} tokens/s", file=sys.stderr, flush=True)
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    report = {
        "what": " ".join(
            [f"recipe {options.recipe}, size {options.size}, {options.rows} rows of 128", *options.settings]
        ),
        "cores": os.cpu_count(),
        "tokens_per_second": speeds,
        "mfu": used,
        "times_the_peer": {
            name: round(medians["ours"] / value, 2) for name, value in medians.items() if name != "ours"
        },
    }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
