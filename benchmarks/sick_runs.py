"""Makes short runs of pre-training, some of them sick on purpose, whose curves the loss check is tested on.

    python benchmarks/sick_runs.py --data DATA --out results/loss-check [NAME ...]

A folder a run, with config.toml, manifest.json and metrics.jsonl; one that is there is left alone, so that the same
command goes on where it stopped. All runs are of size tiny, 32 rows of 128 tokens, uncompiled.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bertwright.errors import BertwrightError
from bertwright.files import read_json, write_json
from bertwright.model.encoder import Encoder
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.types import Batch, MaskedBatch
from bertwright.verbs.pretrain import pretrain

Hide = Callable[..., MaskedBatch]


def patch_hide(change: Callable[[MaskedBatch, torch.Generator], MaskedBatch]) -> None:
    """Have every masked batch changed, in training and evaluation alike."""
    hide: Hide = MaskedLanguageModel.hide

    def changed(
        self: MaskedLanguageModel, batch: Batch, positions: Any, weights: Any, generator: torch.Generator
    ) -> MaskedBatch:
        return change(hide(self, batch, positions, weights, generator), generator)

    MaskedLanguageModel.hide = changed  # type: ignore[method-assign]


def shuffle_labels() -> None:
    """Give each masked slot the label of another one of the batch."""

    def change(masked: MaskedBatch, generator: torch.Generator) -> MaskedBatch:
        used = masked.masked_weights > 0
        labels = masked.masked_labels.clone()
        known = labels[used]
        labels[used] = known[torch.randperm(len(known), generator=generator)]
        return replace(masked, masked_labels=labels)

    patch_hide(change)


def random_pairs() -> None:
    """Draw the label of each pair by a coin."""

    def change(masked: MaskedBatch, generator: torch.Generator) -> MaskedBatch:
        assert masked.next_label is not None
        drawn = torch.randint(0, 2, masked.next_label.shape, generator=generator)
        return replace(masked, next_label=drawn.to(masked.next_label))

    patch_hide(change)


def freeze_blocks() -> None:
    """Leave all but one-dimensional weights of the head for masked tokens as they were drawn."""
    from bertwright.train.setup import assemble

    build = assemble.build_optimizers

    def frozen(model: Encoder, *given: Any, **named: Any) -> Any:
        for name, parameter in model.named_parameters():
            parameter.requires_grad = parameter.ndim == 1 and "mlm" in name
        return build(model, *given, **named)

    assemble.build_optimizers = frozen  # type: ignore[assignment]


@dataclass(frozen=True)
class SickRun:
    """A run, and what is done to it before it begins."""

    recipe: str
    steps: int
    flags: dict[str, Any]
    sickness: Callable[[], None] | None = None


RUNS = {
    "healthy-classic": SickRun("classic", 700, {}),
    "healthy-classic-muon": SickRun("classic-muon", 700, {}),
    "healthy-classic-fast": SickRun("classic-fast", 700, {}),
    "healthy-fast": SickRun("fast", 400, {}),
    "rate-too-high": SickRun("classic", 500, {"learning_rate": 0.03}),
    "rate-far-too-high": SickRun("classic-muon", 200, {"learning_rate": 1.0}),
    "rate-too-small": SickRun("classic", 400, {"learning_rate": 1e-5}),
    "shuffled-labels": SickRun("classic-muon", 450, {}, shuffle_labels),
    "shuffled-labels-fast": SickRun("fast", 300, {}, shuffle_labels),
    "frozen": SickRun("classic", 950, {"learning_rate": 2e-3}, freeze_blocks),
    "random-pairs": SickRun("classic-fast", 620, {}, random_pairs),
}
"""The runs by name."""


def make(name: str, data: Path, out: Path) -> None:
    """Train one run, to its end or until it gives up, and keep its curves."""
    run = RUNS[name]
    if run.sickness is not None:
        run.sickness()
    settings = {"schedule": {"phases": [{"length": 128, "rows": 32, "share": 1.0}]}, "engine": {"compile": False}}
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / name
        try:
            pretrain(data, made, recipe=run.recipe, size="tiny", steps=run.steps, settings=settings, **run.flags)
        except BertwrightError as error:
            print(f"{name}: {error}", file=sys.stderr)
        lines = read_metrics(made / "metrics.jsonl")
        for line in lines:
            line.pop("samples", None)
        out.mkdir(parents=True)
        shutil.copy(made / "config.toml", out)
        write_json(out / "manifest.json", read_json(made / "manifest.json") | {"data": data.name})
        (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def main() -> None:
    """Make the runs that are not there, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", default=list(RUNS))
    given = parser.parse_args()
    for name in given.names:
        if given.here:
            make(name, given.data, given.out / name)
        elif not (given.out / name).exists():
            words = ["--data", str(given.data), "--out", str(given.out), "--here", name]
            subprocess.run([sys.executable, __file__, *words], check=True)


if __name__ == "__main__":
    main()
