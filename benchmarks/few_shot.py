"""Fine-tunes on a few examples of each class, the plain head beside `--few-shot`, and evaluates on the test file.

    python benchmarks/few_shot.py --model DIR --tasks ../shared/data/tasks --out results/few-shot.jsonl

One JSON line a run, written as it ends: the task, examples of each class, the seed (which also draws them), the way,
and accuracy on the test file. The plain head is trained for 40 epochs, as many as the comparison has steps;
`few-shot` for these and the 3 epochs of any run. Nothing is chosen by dev: each run is evaluated once, at its end.
Runs that stand in the file already are left out, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.verbs.finetune import finetune

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"epochs": 40, "learning_rate": 6e-5},
    "few-shot": {"few_shot": True, "learning_rate": 6e-5},
}
"""The flags of each; the rate is the default of few-shot for the 384 units of MiniLM."""


def drawn(source: Path, out: Path, *, shots: int, seed: int) -> Path:
    """Write so many rows of each class of a table, drawn from `seed`."""
    header, *lines = source.read_text(encoding="utf-8").splitlines()
    column = header.split("\t").index("label")
    labels = np.array([line.split("\t")[column] for line in lines])
    random = np.random.default_rng(seed)
    places = [random.choice(np.flatnonzero(labels == one), size=shots, replace=False) for one in np.unique(labels)]
    out.write_text("\n".join([header, *(lines[place] for place in np.concatenate(places))]) + "\n", encoding="utf-8")
    return out


def measured(model: Path, task: Path, way: dict[str, Any], *, shots: int, seed: int) -> dict[str, float]:
    """Return the accuracy of a run on the test file, and its seconds."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train = drawn(task / "train.tsv", Path(folder) / "train.tsv", shots=shots, seed=seed)
        call = {**way, "seed": seed, "seq_length": 128, "text_column": TEXTS.get(task.name), "eval_every": 10**6}
        figures = finetune("classify", model, train, task / "test.tsv", Path(folder) / "run", **call)
    return {"accuracy": figures["dev"]["accuracy"], "seconds": round(time.perf_counter() - began, 1)}


TEXTS = {"agnews": "text"}
"""Columns of texts that are not found by their names alone."""


def main() -> None:
    """Measure each task, number of examples, way and seed that the file does not have yet, and print the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--names", nargs="+", default=["sst2", "agnews"])
    parser.add_argument("--shots", nargs="+", type=int, default=[8, 16])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    for name in given.names:
        for shots in given.shots:
            for way, flags in WAYS.items():
                for seed in given.seeds:
                    what = {"task": name, "shots": shots, "way": way, "seed": seed}
                    if any(what.items() <= one.items() for one in done):
                        continue
                    found = measured(given.model, given.tasks / name, flags, shots=shots, seed=seed)
                    done.append({**what, **found})
                    with given.out.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(done[-1]) + "\n")
    for name in given.names:
        for shots in given.shots:
            for way in WAYS:
                key = {"task": name, "shots": shots, "way": way}
                some = [one["accuracy"] for one in done if key.items() <= one.items()]
                spread = statistics.stdev(some) if len(some) > 1 else 0.0
                print(f"{name} {shots} {way}: {statistics.mean(some):.4f} ± {spread:.4f} ({len(some)} seeds)")


if __name__ == "__main__":
    main()
