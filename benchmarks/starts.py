"""Trains short runs alike but for their first weights: no start, the start from the corpus, and it without one part.

    python benchmarks/starts.py --data data --out results/starts.jsonl --variants all --seeds 0 1 2

One JSON line a run, written as it ends: the variant, the seed, the settings, and held-out figures by step (15% masked,
512 fixed rows). Runs that stand in the file already are left out, so that the same command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from bertwright.model.init import from_corpus, layout
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.verbs.pretrain import pretrain

FROM_CORPUS, LAYOUT = "bertwright.model.init.from_corpus", "bertwright.model.init.layout"
Patches = dict[str, Any]


def random_maps(corpus: layout.CorpusStatistics, offsets: list[int], *, rank: int) -> dict[int, tuple[Tensor, Tensor]]:
    """Return rotations in place of fitted maps: a head copies R directions of the neighbour's vector."""
    frame = torch.linalg.qr(torch.randn(corpus.vectors.shape[1], corpus.vectors.shape[1]))[0]
    return {
        offset: (frame.roll(rank * n, 0)[:rank].T, frame.roll(rank * n, 0)[:rank]) for n, offset in enumerate(offsets)
    }


def no_maps(*_: Any, **__: Any) -> dict[int, tuple[Tensor, Tensor]]:
    """Return the maps of no neighbours."""
    return {}


def nothing(*_: Any, **__: Any) -> None:
    """Stand in for a part that is left out."""


def without_filler(words: Callable[..., None]) -> Callable[..., None]:
    """Return what starts embeddings without making special tokens as long as words."""

    def start(model: Any, corpus: Any, places: Any, special_ids: Any) -> None:
        words(model, corpus, places, special_ids)
        with torch.no_grad():
            model.embeddings.words.weight[:, places.filler] = 0

    return start


VARIANTS: dict[str, tuple[dict[str, Any], Patches]] = {
    "start": ({}, {}),
    "no start": ({"model": {"init": "noise"}}, {}),
    "no start, positions as sinusoids": ({"model": {"init": "noise", "sinusoidal_start": True}}, {}),
    "without neighbours": ({}, {f"{FROM_CORPUS}.OFFSETS": (), f"{FROM_CORPUS}.neighbour_maps": no_maps}),
    "without neighbours past 1": ({}, {f"{FROM_CORPUS}.OFFSETS": (-1, 1)}),
    "rotations instead of fitted maps": ({}, {f"{FROM_CORPUS}.neighbour_maps": random_maps}),
    "without the comparison of segments": ({}, {f"{FROM_CORPUS}.can_compare": lambda config: False}),
    "blocks not silenced": ({}, {f"{FROM_CORPUS}._silence": nothing}),
    "masked-token head and its bias as drawn": (
        {},
        {f"{FROM_CORPUS}._start_token_head": nothing, f"{FROM_CORPUS}.sharpen": nothing},
    ),
    "special tokens shorter than words": (
        {},
        {f"{FROM_CORPUS}.start_embeddings": without_filler(from_corpus.start_embeddings)},
    ),
    "without rarity": ({}, {f"{LAYOUT}.RARITY": 0.0}),
}
"""By name: settings over those of the call, and what is put in place of parts of the start."""


@contextmanager
def replaced(patches: Patches) -> Iterator[None]:
    """Put other values in place of some of the start's while a run begins."""
    with ExitStack() as stack:
        for name, value in patches.items():
            stack.enter_context(patch(name, value))
        yield


def run(data: Path, name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Train one run and return its held-out figures by step."""
    over, patches = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder, replaced(patches):
        merged = {**settings, "model": {**settings.get("model", {}), **over.get("model", {})}}
        pretrain(data, Path(folder) / "run", recipe="classic-fast", settings=merged)
        lines = read_metrics(Path(folder) / "run" / "metrics.jsonl")
    return {str(line["step"]): line["valid"] for line in lines if line.get("valid")}


def main() -> None:
    """Run what is asked for and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=["start", "no start"], choices=[*VARIANTS, "all"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--size", default="mini")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--evaluations", type=int, default=3)
    given = parser.parse_args()
    done = [json.loads(line) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    names = list(VARIANTS) if "all" in given.variants else given.variants
    for seed in given.seeds:
        for name in names:
            what = {"data": given.data.name, "size": given.size, "steps": given.steps, "rows": given.rows, "seed": seed}
            if any(line["variant"] == name and what.items() <= line.items() for line in done):
                continue
            settings = {
                "size": given.size,
                "seed": seed,
                "schedule": {"steps": given.steps, "phases": [{"length": 128, "rows": given.rows, "share": 1.0}]},
                "engine": {"evaluations": given.evaluations},
            }
            line = {"variant": name, **what, "valid": run(given.data, name, settings)}
            with given.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
