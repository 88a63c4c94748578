"""Trains models of several sizes for several durations, and fits the law of loss by size and tokens to how they end.

    python benchmarks/scaling.py run --data en=DATA zh=DATA-ZH --out src/bertwright/planning/runs.jsonl
    python benchmarks/scaling.py run --data en=DATA --sizes mini --minutes 60 --held-back --out FILE.jsonl
    python benchmarks/scaling.py fit src/bertwright/planning/runs.jsonl

`run`: a JSON line a run, as it ends, shortest first; runs that stand in the file are left out, so that the same command
goes on where it stopped, and one that was stopped itself begins again. 3 sizes, 2, 5, 10 and 20 minutes, 2 languages:
3.7 hours, on a machine that does nothing else. A run that is --held-back is not fitted, but must fall inside the
interval. `fit` prints, for each language, the law, each run beside it, and the held-back ones beside their interval.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.corpus.manifest import read_manifest
from bertwright.device import machine, pick_device
from bertwright.hub.encoder_folder import read_config
from bertwright.planning.law import Runs, fit_law, read_runs
from bertwright.verbs.pretrain import pretrain

SIZES, MINUTES = ("tiny", "mini", "small"), (2.0, 5.0, 10.0, 20.0)
KEPT = (
    "steps", "tokens", "epochs", "seconds", "setup_seconds", "tokens_per_second", "mfu", "peak_flops", "parameters",
    "unigram_entropy",
)  # fmt: skip
KEY = ("language", "size", "minutes", "seed", "recipe")


def one_run(data: Path, key: dict[str, Any]) -> dict[str, Any]:
    """Return how a run ends: what it took, how large its model is, and its held-out figures."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        figures = pretrain(data, out, size=key["size"], minutes=key["minutes"], seed=key["seed"], recipe=key["recipe"])
        shape = read_config(out / "model")
    manifest = read_manifest(data)
    return {
        **key,
        **{name: figures[name] for name in KEPT},
        "body_parameters": shape.layers * shape.block_weights, "layers": shape.layers, "width": shape.hidden_size,
        "vocab_size": shape.vocab_size, "data_tokens": manifest["splits"]["train"]["tokens"],
        "fingerprint": manifest["fingerprint"], **figures["valid"], "machine": machine(pick_device()),
    }  # fmt: skip


def missing(given: argparse.Namespace) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the data and the key of each run that has no line yet, shortest first."""
    lines = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    done = {tuple(line[name] for name in KEY) for line in lines}
    folders = dict(one.split("=", 1) for one in given.data)
    for minutes, size, language in product(sorted(given.minutes), given.sizes, folders):
        key = dict(zip(KEY, (language, size, minutes, given.seed, given.recipe), strict=True))
        if tuple(key.values()) not in done:
            yield Path(folders[language]), key


def run_all(given: argparse.Namespace) -> None:
    """Train what is asked for and not yet there."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for data, key in missing(given):
        line = one_run(data, key) | ({"held_back": True} if given.held_back else {})
        with given.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def show_fits(given: argparse.Namespace) -> None:
    """Print the law of each language, its residuals, and what was held back."""
    lines = [json.loads(line) for line in given.file.read_text(encoding="utf-8").splitlines()]
    for language in sorted({line["language"] for line in lines}):
        runs = read_runs([given.file], language=language, loss=given.loss)
        law = fit_law(runs)
        log_a, alpha, log_b, beta, log_floor = law.numbers
        print(f"{language}: {given.loss} = {np.exp(log_floor):.3f} + {np.exp(log_a):.3f} (N / {law.units[0]:.3g})^-"
              f"{alpha:.3f} + {np.exp(log_b):.3f} (D / {law.units[1]:.3g})^-{beta:.3f}; log residuals "
              f"{np.std(law.residuals):.4f} of {len(runs)} runs")  # fmt: skip
        for size, tokens, loss, residual in zip(*_columns(runs), law.residuals.tolist(), strict=True):
            print(f"  N {size:12,.0f}  D {tokens:14,.0f}  {loss:.4f}, by the law {law.loss(size, tokens):.4f} "
                  f"({residual:+.4f})")  # fmt: skip
        for line in lines:
            if line["language"] == language and line.get("held_back"):
                low, high = law.interval(line["body_parameters"], line["tokens"])
                inside = "inside" if low <= line[given.loss] <= high else "OUTSIDE"
                print(f"  held back: {line['size']}, {line['minutes']:g} minutes: {line[given.loss]:.4f} is {inside} "
                      f"{low:.4f} to {high:.4f}")  # fmt: skip


def _columns(runs: Runs) -> tuple[list[float], list[float], list[float]]:
    return runs.sizes.tolist(), runs.tokens.tolist(), runs.losses.tolist()


def main() -> None:
    """Run, or fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    run = verbs.add_parser("run")
    run.add_argument("--data", nargs="+", required=True, metavar="LANGUAGE=DATA")
    run.add_argument("--out", type=Path, required=True)
    run.add_argument("--sizes", nargs="+", default=SIZES)
    run.add_argument("--minutes", nargs="+", type=float, default=MINUTES)
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--recipe", default="classic-fast")
    run.add_argument("--held-back", action="store_true")
    run.set_defaults(do=run_all)
    fit = verbs.add_parser("fit")
    fit.add_argument("file", type=Path)
    fit.add_argument("--loss", default="mlm_loss", help="or mlm_nats_per_byte")
    fit.set_defaults(do=show_fits)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
