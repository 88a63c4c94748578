"""Compares what fine-tuning ends with, ours beside the Hugging Face Trainer's: same model, files, epochs and rates.

    python benchmarks/quality_beside_peers.py --model DIR --tasks ../shared/data/tasks --seeds 3 --out quality

Each task, side and seed is a process of its own, and its figures a file in OUT, so that a comparison that was stopped
goes on where it was. Judged on test where there is one, else on dev, on which both sides chose their best epoch. In the
end there is OUT/quality.json, and a table: mean and standard deviation over seeds, and whether ours is worse by more
than the larger of the two deviations.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import run

PEERS = Path(__file__).parent / "peers"


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


def ours(options: argparse.Namespace, name: str, seed: int, file: Path) -> None:
    """Fine-tune with bertwright and leave result.json at `file`."""
    task, scratch = TASKS[name], file.with_suffix(".run")
    shutil.rmtree(scratch, ignore_errors=True)
    words = ["--model", options.model, *files_of(options.tasks / name, task), "--epochs", task.epochs, "--seed", seed]
    run([sys.executable, "-m", "bertwright", "finetune", task.kind, *words, "--out", scratch])
    shutil.copyfile(scratch / "result.json", file)
    shutil.rmtree(scratch)


def peer(options: argparse.Namespace, name: str, seed: int, file: Path) -> None:
    """Fine-tune with the Trainer and leave its figures at `file`."""
    task = TASKS[name]
    words = ["--model", options.model, *files_of(options.tasks / name, task), "--epochs", task.epochs, "--seed", seed]
    script = ["answer.py"] if task.kind == "answer" else ["finetune.py", task.kind]
    run([options.peer_python, PEERS / script[0], *script[1:], *words, "--out", file])


def figure_of(file: Path, task: Compared) -> float:
    """Return the figure of one side and seed: on test where it was judged there."""
    seen = json.loads(file.read_text(encoding="utf-8"))["seeds"][0]
    return float(seen.get("test", seen["dev"])[task.figure])


def compared(out: Path, name: str, seeds: int) -> dict[str, Any]:
    """Return mean and deviation of both sides of a task, and their difference."""
    task = TASKS[name]
    told: dict[str, Any] = {"figure": task.figure, "epochs": task.epochs, "seeds": seeds}
    for side in ("ours", "peer"):
        files = [out / f"{name}-{side}-{seed}.json" for seed in range(seeds)]
        values = [figure_of(file, task) for file in files]
        speeds = [json.loads(file.read_text(encoding="utf-8"))["examples_per_second"] for file in files]
        told[side] = {
            "mean": round(statistics.fmean(values), 4),
            "spread": round(statistics.stdev(values), 4) if seeds > 1 else 0.0,
            "values": [round(value, 4) for value in values],
            "examples_per_second": statistics.median(speeds),
        }
    told["difference"] = round(told["ours"]["mean"] - told["peer"]["mean"], 4)
    told["worse"] = -told["difference"] > max(told["ours"]["spread"], told["peer"]["spread"])
    return told


def main() -> None:
    """Run what is missing, then tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True, help="folder with a folder for each task")
    parser.add_argument("--only", nargs="+", choices=sorted(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peer-python", default=sys.executable)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for seed in range(options.seeds):
        for name in options.only:
            for side, train in (("ours", ours), ("peer", peer)):
                file = options.out / f"{name}-{side}-{seed}.json"
                if not file.exists():
                    train(options, name, seed, file)
                told = figure_of(file, TASKS[name])
                print(f"{name}, seed {seed}, {side}: {told:.4f}", file=sys.stderr, flush=True)
    report = {name: compared(options.out, name, options.seeds) for name in options.only}
    (options.out / "quality.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("| task | figure | ours | Trainer | difference |\n|---|---|---|---|---|")
    for name, told in report.items():
        sides = " | ".join(f"{told[side]['mean']:.4f} ± {told[side]['spread']:.4f}" for side in ("ours", "peer"))
        worse = " (worse)" if told["worse"] else ""
        print(f"| {name} | {told['figure']} | {sides} | {told['difference']:+.4f}{worse} |")


if __name__ == "__main__":
    main()
