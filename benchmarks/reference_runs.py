"""Turns the runs in results/ into what `train/diagnosis` compares the loss of other runs with.

python benchmarks/reference_runs.py results/en-classic results/zh-classic-fast ... [--out FILE]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bertwright.files import read_json
from bertwright.nested import read_toml
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.diagnosis.reference_runs import FILE, kind_of_run, reference_of, write_reference_runs


def main() -> None:
    """Write reference_runs.json, and print when each run passed what every run passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    runs = []
    for folder in given.runs:
        kind = kind_of_run(read_toml(folder / "config.toml"), read_json(folder / "manifest.json"))
        assert kind is not None, f"{folder} is no run of pre-training"
        runs.append(reference_of(folder.name, kind, read_metrics(folder / "metrics.jsonl")))
        print(runs[-1].name, kind, runs[-1].at_entropy, runs[-1].uses_context, runs[-1].knows_pairs)
    write_reference_runs(runs, given.out)


if __name__ == "__main__":
    main()
