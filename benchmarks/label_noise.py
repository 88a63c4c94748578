"""Flips labels of a training file on purpose, and measures how many of them `finetune --suspects` finds.

    python benchmarks/label_noise.py --model DIR --tasks ../shared/data/tasks --out results/label-noise.jsonl

One JSON line a run, written as it ends: the task, the fraction flipped, the seed, how many labels are doubted, and
recall and precision against those that were flipped (some of the others are wrong in the file itself). Runs that stand
in the file already are left out, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from bertwright.verbs.finetune import finetune

ROWS = 2000
"""Rows of each training file that are used."""


def flipped(source: Path, out: Path, *, fraction: float, seed: int) -> set[int]:
    """Write the first rows of a table with some labels changed to another class; return those rows, from 1."""
    header, *lines = source.read_text(encoding="utf-8").splitlines()[: ROWS + 1]
    column = header.split("\t").index("label")
    rows = [line.split("\t") for line in lines]
    labels = sorted({row[column] for row in rows})
    random = np.random.default_rng(seed)
    chosen = random.choice(len(rows), size=round(fraction * len(rows)), replace=False)
    for place in chosen.tolist():
        others = [label for label in labels if label != rows[place][column]]
        rows[place][column] = str(random.choice(others))
    out.write_text("\n".join([header, *("\t".join(row) for row in rows)]) + "\n", encoding="utf-8")
    return {place + 1 for place in chosen.tolist()}


def measured(model: Path, source: Path, *, fraction: float, seed: int, epochs: float) -> dict[str, float]:
    """Return what a run finds of the labels that were flipped."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train = Path(folder) / "train.tsv"
        wrong = flipped(source, train, fraction=fraction, seed=seed)
        call = {"folds": 5, "suspects": True, "seed": seed, "epochs": epochs, "seq_length": 128}
        figures = finetune("classify", model, train, out=Path(folder) / "run", **call)
        lines = (Path(folder) / "run" / "suspects.jsonl").read_text(encoding="utf-8").splitlines()
    found = [json.loads(line)["row"] for line in lines]
    hits = len(wrong.intersection(found))
    first = len(wrong.intersection(found[: len(wrong)]))
    return {
        "accuracy_of_folds": figures["mean"]["dev"]["accuracy"],
        "flipped": len(wrong),
        "doubted": len(found),
        "recall": round(hits / len(wrong), 4),
        "precision": round(hits / max(1, len(found)), 4),
        "precision_of_first": round(first / len(wrong), 4),
        "seconds": round(time.perf_counter() - began, 1),
    }


def main() -> None:
    """Measure each task, fraction and seed that the file does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tasks", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--names", nargs="+", default=["sst2", "agnews"])
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.05, 0.1])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--epochs", type=float, default=3)
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.is_file() else []
    for name in given.names:
        for fraction in given.fractions:
            for seed in given.seeds:
                what = {"task": name, "fraction": fraction, "seed": seed, "epochs": given.epochs}
                if any(what.items() <= one.items() for one in done):
                    continue
                found = measured(
                    given.model, given.tasks / name / "train.tsv", fraction=fraction, seed=seed, epochs=given.epochs
                )
                with given.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**what, **found}) + "\n")


if __name__ == "__main__":
    main()
