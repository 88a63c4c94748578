"""Measures what a search is worth: its winner beside the defaults, each over five seeds, on data it has not seen.

    python benchmarks/tune.py --model MINILM --zh-model MODEL --tasks ../shared/data/tasks --out studies

Each task is searched once for --minutes, in --processes processes; then `finetune` trains the defaults and the recipe
that was found with the same five seeds, --processes runs at a time, and evaluates each on test. ChnSentiCorp has no
test file: a fifth of its training file, by a hash of the texts, is held out as one. A search, and each run, is a line
of OUT/parts.jsonl as soon as it is done, and a measurement that was stopped goes on from there. Prints for each task
the means, the standard error of the winner's, and whether the winner is better by more than that.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commands import run

from bertwright.data.labelled.dev_split import key_hash


@dataclass(frozen=True)
class Searched:
    """A task on a folder of files: the kind of `finetune`, the suffix of its files, and the figure that is tuned."""

    kind: str
    suffix: str
    metric: str
    chinese: bool = False


TASKS = {
    "rte": Searched("classify", "tsv", "accuracy"),
    "cola": Searched("classify", "tsv", "matthews"),
    "mrpc": Searched("classify", "tsv", "f1"),
    "wnut17": Searched("tag", "conll", "f1"),
    "chnsenticorp": Searched("classify", "tsv", "accuracy", chinese=True),
}
HELD_OUT = 5
"""One row in so many is held out where there is no test file."""
SEEDS = range(100, 105)
"""Seeds of each side; the search has used none of them."""
SIDES, SPLITS = ("defaults", "winner"), ("train", "dev", "test")


def files_of(folder: Path, task: Searched, out: Path) -> dict[str, Path]:
    """Return train, dev and test of a task; cuts test off train, below `out`, where the folder has none."""
    files = {split: folder / f"{split}.{task.suffix}" for split in ("train", "dev", "test")}
    if files["test"].exists():
        return files
    out.mkdir(parents=True, exist_ok=True)
    header, *rows = files["train"].read_text(encoding="utf-8").splitlines()
    held = [row for row in rows if key_hash(row.rpartition("\t")[0]) % HELD_OUT == 0]
    kept = [row for row in rows if key_hash(row.rpartition("\t")[0]) % HELD_OUT]
    for split, part in (("train", kept), ("test", held)):
        files[split] = out / f"{split}.{task.suffix}"
        files[split].write_text("\n".join([header, *part]) + "\n", encoding="utf-8")
    return files


class Measurement:
    """What was measured so far, by task and part: "search", or a side and a seed, such as "winner 100"."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        """Read the lines of an earlier call, and cut the files that are to be cut before any process reads them."""
        self.arguments = arguments
        arguments.out.mkdir(parents=True, exist_ok=True)
        self.file = arguments.out / "parts.jsonl"
        lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        self.parts = {(line["task"], line["part"]): line for line in map(json.loads, lines)}
        self.files = {
            name: files_of(arguments.tasks / name, TASKS[name], arguments.out / name / "files")
            for name in arguments.only
        }

    def keep(self, name: str, part: str, figures: dict[str, Any]) -> None:
        """Write a line."""
        line = {"task": name, "part": part, **figures}
        self.parts[name, part] = line
        with self.file.open("a", encoding="utf-8") as end:
            end.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def measure(self, name: str) -> bool:
        """Search a task, then train both sides, each seed in a process of its own; return whether all ended well."""
        if (name, "search") not in self.parts:
            self.keep(name, "search", self.search(name))
        recipe = self.arguments.out / name / "recipe.toml"
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(self.parts[name, "search"]["recipe"], encoding="utf-8")
        todo = [(seed, side) for seed in SEEDS for side in SIDES if (name, f"{side} {seed}") not in self.parts]
        failed = 0
        with ThreadPoolExecutor(self.arguments.processes) as pool:
            runs = {pool.submit(self.trained, name, side, seed): f"{side} {seed}" for seed, side in todo}
            for one in as_completed(runs):
                error = one.exception()
                if error is None:
                    self.keep(name, runs[one], one.result())
                else:  # the others are worth keeping
                    failed += 1
                    print(f"{name}, {runs[one]}: {error}", file=sys.stderr, flush=True)
        return not failed

    def words(self, name: str, verb: str, *splits: str) -> list[Any]:
        """Return the words of a call for a task; it reads these files."""
        task, files = TASKS[name], self.files[name]
        model = self.arguments.zh_model if task.chinese else self.arguments.model
        words = [sys.executable, "-m", "bertwright", verb, task.kind, "--model", model, "--json"]
        return [*words, "--metric", task.metric, *(word for one in splits for word in (f"--{one}", files[one]))]

    def search(self, name: str) -> dict[str, Any]:
        """Return what a search found, and the text of the recipe that it wrote."""
        out = self.arguments.out / name / "study"
        words = [*self.words(name, "tune", "train", "dev"), "--out", out, "--num-seeds", 1]
        words += ["--minutes", self.arguments.minutes, "--processes", self.arguments.processes]
        study = json.loads(run(words))
        kept = {one: study[one] for one in ("winner", "defaults", "seconds", "seconds_of_search", "runs", "importance")}
        text = (out / "recipe.toml").read_text(encoding="utf-8")
        return {**kept, "trials": len(study["trials"]), "recipe": text}

    def trained(self, name: str, side: str, seed: int) -> dict[str, Any]:
        """Return the figures of one run of a side."""
        folder = self.arguments.out / name
        words = [*self.words(name, "finetune", *SPLITS), "--out", folder / f"{side}-{seed}", "--overwrite"]
        words += ["--seed", seed, "--engine.compile", "false"]
        if side == "winner":
            words += ["--recipe", folder / "recipe.toml"]
        figures = json.loads(run(words, threads=max(1, (os.cpu_count() or 1) // self.arguments.processes)))
        return {split: figures[split][TASKS[name].metric] for split in SPLITS[1:]}


def summary(parts: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each task that is measured to the end."""
    lines = []
    for name in TASKS:
        runs = {side: [parts.get((name, f"{side} {seed}")) for seed in SEEDS] for side in SIDES}
        if None in runs["defaults"] + runs["winner"]:
            continue
        defaults, winner = ([one["test"] for one in runs[side] if one] for side in SIDES)
        error = statistics.stdev(winner) / len(winner) ** 0.5
        gain = statistics.mean(winner) - statistics.mean(defaults)
        lines.append(
            {
                "task": name,
                "defaults": round(statistics.mean(defaults), 4),
                "winner": round(statistics.mean(winner), 4),
                "standard_error": round(error, 4),
                "gain": round(gain, 4),
                "better": gain > error,
                "settings": parts[name, "search"]["winner"]["settings"],
            }
        )
    return lines


def main() -> None:
    """Measure what is not measured yet, and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of MiniLM")
    parser.add_argument("--zh-model", type=Path, required=True, help="folder of a Chinese model of ours")
    parser.add_argument("--tasks", type=Path, required=True, help="folder of the tasks' folders")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(TASKS), default=list(TASKS))
    arguments = parser.parse_args()
    measurement = Measurement(arguments)
    well = [measurement.measure(name) for name in arguments.only]
    for line in summary(measurement.parts):
        print(json.dumps(line))
    sys.exit(0 if all(well) else 1)


if __name__ == "__main__":
    main()
