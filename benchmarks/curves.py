"""Draws the held-out curves of several runs in one picture, peers' too: loss and next-sentence accuracy over minutes.

python benchmarks/curves.py results/en.png runs/en-classic runs/en-classic-muon
"""

from __future__ import annotations

import sys
from pathlib import Path

from matplotlib.figure import Figure

from bertwright.evaluate.report import held_out
from bertwright.files import read_json
from bertwright.train.listeners.metrics import read_metrics


def main(out: Path, runs: list[Path]) -> None:
    """Draw every run that has a metrics.jsonl, named by its folder, against the unigram entropy of their corpus."""
    figure = Figure(figsize=(11, 4), layout="constrained")
    losses, pairs = figure.subplots(1, 2)
    for run in runs:
        lines = read_metrics(run / "metrics.jsonl")
        for axes, name in ((losses, "mlm_loss"), (pairs, "nsp_accuracy")):
            minutes, values = held_out(lines, name)
            if values:
                axes.plot(minutes, values, "o-", ms=3, label=run.name)
    manifests = [read_json(run / "manifest.json") for run in runs if (run / "manifest.json").is_file()]
    if manifests:
        losses.axhline(manifests[0]["unigram_entropy"], color="#999", ls="--", lw=1, label="unigram entropy")
    pairs.axhline(0.5, color="#999", ls="--", lw=1, label="chance")
    losses.set(xlabel="minutes", ylabel="held-out MLM loss (nats)")
    pairs.set(xlabel="minutes", ylabel="held-out next-sentence accuracy", ylim=(0.4, 1))
    for axes in (losses, pairs):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
