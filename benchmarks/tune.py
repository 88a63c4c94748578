"""Measures what a search is worth: its winner beside the defaults, each over five seeds, on data it has not seen.

    python benchmarks/tune.py --model MINILM --zh-model MODEL --tasks ../shared/data/tasks --out studies

Each task is searched once for --minutes, in --processes processes; then `finetune` trains the defaults and the recipe
that was found with the same five seeds, and both are evaluated on test. ChnSentiCorp has no test file: a fifth of its
training file, by a hash of the texts, is held out as one. Each part is a line of OUT/parts.jsonl as soon as it is done,
and a measurement that was stopped goes on from there. Prints for each task the means, the standard error of the
winner's, and whether the winner is better by more than that.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
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
SEEDS, FIRST_SEED = 5, 100
"""Seeds of each side; the search has used none of them."""


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


def words_of(files: dict[str, Path]) -> list[Any]:
    """Return the flags that name files."""
    return [word for split, file in files.items() for word in (f"--{split}", file)]


def measure(part: str, name: str, arguments: argparse.Namespace, found: str) -> dict[str, Any]:
    """Return the figures of a part of a task: "tune", "defaults" or "winner", which goes by the recipe `found`."""
    task = TASKS[name]
    folder, model = arguments.out / name, arguments.zh_model if task.chinese else arguments.model
    files = files_of(arguments.tasks / name, task, folder / "files")
    bertwright = [sys.executable, "-m", "bertwright"]
    if part == "tune":
        seen = {split: file for split, file in files.items() if split != "test"}
        words = ["tune", task.kind, "--model", model, *words_of(seen), "--out", folder / "study", "--json"]
        words += ["--minutes", arguments.minutes, "--num-seeds", 1, "--processes", arguments.processes]
        study = json.loads(run([*bertwright, *words, "--metric", task.metric]))
        kept = ("winner", "defaults", "seconds", "seconds_of_search", "runs", "importance")
        text = (folder / "study" / "recipe.toml").read_text(encoding="utf-8")
        return {one: study[one] for one in kept} | {"trials": len(study["trials"]), "recipe": text}
    recipe = ["--metric", task.metric]
    if part == "winner":
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.toml").write_text(found, encoding="utf-8")
        recipe = ["--recipe", folder / "recipe.toml"]
    words = ["finetune", task.kind, "--model", model, *words_of(files), "--out", folder / part, "--json", "--overwrite"]
    figures = json.loads(run([*bertwright, *words, "--num-seeds", SEEDS, "--seed", FIRST_SEED, *recipe]))
    return {split: [one[split][task.metric] for one in figures["seeds"]] for split in ("dev", "test")}


def summary(parts: dict[tuple[str, str], dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each task that is measured to the end."""
    lines = []
    for name in TASKS:
        if not {(name, "defaults"), (name, "winner")} <= parts.keys():
            continue
        defaults, winner = (parts[name, part]["test"] for part in ("defaults", "winner"))
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
                "settings": parts[name, "tune"]["winner"]["settings"],
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
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / "parts.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    parts = {(line["task"], line["part"]): line for line in map(json.loads, lines)}
    for name in arguments.only:
        for part in ("tune", "defaults", "winner"):
            if (name, part) not in parts:
                recipe = parts[name, "tune"]["recipe"] if part == "winner" else ""
                line = {"task": name, "part": part, **measure(part, name, arguments, recipe)}
                parts[name, part] = line
                with file.open("a", encoding="utf-8") as end:
                    end.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)
    for line in summary(parts):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
