"""Draws the held-out curves of several runs in one picture, peers' too: loss and next-sentence accuracy over minutes.

python benchmarks/curves.py results/en.png runs/en-classic runs/en-classic-muon
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bertwright.files import read_json
from bertwright.reports.curves import valid_curve
from bertwright.train.callbacks.metrics_file import read_metrics


def main(out: Path, runs: list[Path]) -> None:
    """Draw every run that has a metrics.jsonl, named by its folder, against the unigram entropy of their corpus."""
    content = {run.name: read_metrics(run / "metrics.jsonl") for run in runs}
    pairs = [lines for lines in content.values() if valid_curve(lines, "nsp_accuracy")[1]]
    figure = Figure(figsize=(11 if pairs else 6.5, 4), layout="constrained")
    panels = figure.subplots(1, 2 if pairs else 1, squeeze=False)[0]
    draw(panels[0], content, "mlm_loss")
    panels[0].set(xlabel="minutes", ylabel="held-out MLM loss (nats)")
    manifests = [read_json(run / "manifest.json") for run in runs if (run / "manifest.json").is_file()]
    if manifests:
        panels[0].axhline(manifests[0]["unigram_entropy"], color="#999", ls="--", lw=1, label="unigram entropy")
    if pairs:
        balanced = all(valid_curve(lines, "nsp_balanced_accuracy")[1] for lines in pairs)  # not in earlier runs
        draw(panels[1], content, "nsp_balanced_accuracy" if balanced else "nsp_accuracy")
        if balanced:
            panels[1].axhline(0.5, color="#999", ls="--", lw=1, label="a constant answer")
        name = "balanced accuracy" if balanced else "accuracy"
        panels[1].set(xlabel="minutes", ylabel=f"held-out NSP {name}", ylim=(0.4, 1))
    for axes in panels:
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def draw(axes: Axes, given: dict[str, list[dict[str, Any]]], name: str) -> None:
    """Draw the held-out figure `name` of each run that has it over minutes."""
    for run, lines in given.items():
        minutes, values = valid_curve(lines, name)
        if values:
            axes.plot(minutes, values, "o-", ms=3, label=run)


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
