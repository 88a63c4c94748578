"""Compares what fine-tuning ends with, ours beside the Hugging Face Trainer's: same model, files, epochs and rates.

    python benchmarks/quality_beside_peers.py --model DIR --tasks ../shared/data/tasks --seeds 3 --out quality

Each task, side and seed is a process of its own, and its figure is written into OUT/TASK.json at once, so that a
comparison that was stopped goes on where it was, and one of few seeds can have more. Judged on test where there is one,
else on dev, on which both sides chose their best epoch. Prints a table of the seeds that both sides have: mean and
standard deviation, and whether ours is worse by more than the larger of the two deviations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import run

PEERS = Path(__file__).parent / "peers"
Figures = dict[str, dict[str, float]]
"""The figure of a task for each side and seed."""


@dataclass(frozen=True)
class Compared:
    """A task on a folder of files: the kind of `finetune`, the suffix of its files, and the figure that is told."""

    kind: str
    suffix: str
    figure: str
    epochs: float = 3


TASKS = {
    "sst2": Compared("classify", "tsv", "accuracy"),
    "cola": Compared("classify", "tsv", "matthews"),
    "mrpc": Compared("classify", "tsv", "f1"),
    "stsb": Compared("regress", "tsv", "spearman"),
    "rte": Compared("classify", "tsv", "accuracy"),
    "agnews": Compared("classify", "tsv", "accuracy", epochs=2),
    "conll2003": Compared("tag", "conll", "f1"),
    "wnut17": Compared("tag", "conll", "f1"),
    "squad1_subset": Compared("answer", "json", "f1"),
    "squad2_subset": Compared("answer", "json", "f1", epochs=2),
}


def files_of(folder: Path, task: Compared) -> list[Any]:
    """Return the words that name the files of a task."""
    test = folder / f"test.{task.suffix}"
    words: list[Any] = ["--train", folder / f"train.{task.suffix}", "--dev", folder / f"dev.{task.suffix}"]
    return [*words, *(["--test", test] if test.exists() else [])]


def ours(options: argparse.Namespace, name: str, seed: int, scratch: Path) -> Path:
    """Fine-tune with bertwright; return the file of its figures."""
    task = TASKS[name]
    words = ["--model", options.model, *files_of(options.tasks / name, task), "--epochs", task.epochs, "--seed", seed]
    run([sys.executable, "-m", "bertwright", "finetune", task.kind, *words, "--out", scratch / "ours"])
    return scratch / "ours" / "result.json"


def peer(options: argparse.Namespace, name: str, seed: int, scratch: Path) -> Path:
    """Fine-tune with the Trainer; return the file of its figures."""
    task, file = TASKS[name], scratch / "peer.json"
    words = ["--model", options.model, *files_of(options.tasks / name, task), "--epochs", task.epochs, "--seed", seed]
    script = ["answer.py"] if task.kind == "answer" else ["finetune.py", task.kind]
    run([options.peer_python, PEERS / script[0], *script[1:], *words, "--out", file])
    return file


def figure_of(file: Path, task: Compared) -> float:
    """Return the figure of one side and seed: on test where it was evaluated there."""
    seen = json.loads(file.read_text(encoding="utf-8"))["seeds"][0]
    return float(seen.get("test", seen["dev"])[task.figure])


def figures_in(out: Path, name: str) -> Figures:
    """Return what is known of a task."""
    file = out / f"{name}.json"
    figures: Figures = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"ours": {}, "peer": {}}
    return figures


def row_of(name: str, figures: Figures) -> str:
    """Return the row of a task in the table: both sides over the seeds that both have."""
    seeds = sorted(figures["ours"].keys() & figures["peer"].keys())
    if not seeds:
        return f"| {name} | {TASKS[name].figure} | 0 | | | |"
    ours, peer = ([figures[side][seed] for seed in seeds] for side in ("ours", "peer"))
    spreads = [statistics.stdev(values) if len(seeds) > 1 else 0.0 for values in (ours, peer)]
    means = [statistics.fmean(values) for values in (ours, peer)]
    sides = " | ".join(f"{mean:.4f} ± {spread:.4f}" for mean, spread in zip(means, spreads, strict=True))
    worse = " (worse)" if means[1] - means[0] > max(spreads) else ""
    return f"| {name} | {TASKS[name].figure} | {len(seeds)} | {sides} | {means[0] - means[1]:+.4f}{worse} |"


def main() -> None:
    """Run what is missing, then tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="folder with a folder for each task")
    parser.add_argument("--only", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3, help="0 tells what is there")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in options.only:
            figures = figures_in(options.out, name)
            for side, train in (("ours", ours), ("peer", peer)):
                if str(seed) not in figures[side]:
                    with tempfile.TemporaryDirectory() as scratch:
                        file = train(options, name, seed, Path(scratch))
                        figures[side][str(seed)] = round(figure_of(file, TASKS[name]), 5)
                    (options.out / f"{name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
                print(f"{name}, seed {seed}, {side}: {figures[side][str(seed)]:.4f}", file=sys.stderr, flush=True)
    print("| task | figure | seeds | ours | Trainer | difference |\n|---|---|---|---|---|---|")
    for name in options.only:
        print(row_of(name, figures_in(options.out, name)))


if __name__ == "__main__":
    main()
