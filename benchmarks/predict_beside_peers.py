"""Measures `predict` beside the pipeline of transformers, in turn, on the same machine, model and texts: sentences/s.

    python benchmarks/predict_beside_peers.py --model runs/sentiment/model --input texts.txt --out results/predict.json

The pipeline is run by `peers/pipeline.py`, in the environment of --peer-python where it is given, at the batch size and
type that a sweep finds best for it; ours is `bertwright bench predict`: float32, as `predict` does, and ONNX. Every
measurement is a process of its own, opening models is left out, the sides take turns, and ratios are of medians.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from commands import run

PEER = Path(__file__).parent / "peers" / "pipeline.py"


def peer(options: argparse.Namespace, best: dict[str, Any] | None) -> dict[str, Any]:
    """Return the figures of the pipeline, at what was best where that is known."""
    words = ["--model", options.model, "--input", options.input]
    words += [] if best is None else ["--batch", best["batch"], "--dtype", best["dtype"]]
    figures: dict[str, Any] = json.loads(run([options.peer_python, PEER, *words]).splitlines()[-1])
    return figures


def ours(options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of `bench predict`."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "predict.json"
        words = ["--model", options.model, "--input", options.input, "--turns", 1, "--out", file]
        run([sys.executable, "-m", "bertwright", "bench", "predict", *words])
        figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return figures


def labels_of(options: argparse.Namespace) -> list[str]:
    """Return the labels of `predict` at its defaults."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "answers.jsonl"
        words = ["--model", options.model, "--input", options.input, "--output", file]
        run([sys.executable, "-m", "bertwright", "predict", *words])
        return [json.loads(line)["label"] for line in file.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    """Measure the sides in turn and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--peer-python", default=sys.executable)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    first: dict[str, Any] | None = None
    speeds: dict[str, list[float]] = {"pipeline": []}
    figures: dict[str, Any] = {}
    for _ in range(options.turns):
        given = peer(options, first)
        first = first or given
        speeds["pipeline"].append(given["sentences_per_second"])
        figures = ours(options)
        for name, speed in figures["sides"].items():
            speeds.setdefault(name, []).append(speed)
        print({name: of[-1] for name, of in speeds.items()}, file=sys.stderr, flush=True)
    assert first is not None
    same = sum(a == b for a, b in zip(labels_of(options), first["labels"], strict=True))
    report = {
        **figures,
        "sides": {name: round(median(of), 1) for name, of in speeds.items()},
        "turns": speeds,
        "pipeline": {name: first[name] for name in ("dtype", "batch", "swept")},
        "times_the_pipeline": {
            name: round(median(of) / median(speeds["pipeline"]), 2) for name, of in speeds.items() if name != "pipeline"
        },
        "labels_like_the_pipeline": round(same / len(first["labels"]), 5),
    }
    print(json.dumps(report, indent=2))
    if options.out:
        options.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
