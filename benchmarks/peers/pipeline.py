"""The peer of `predict`: the text-classification pipeline of transformers, at one batch size and type, or at its best.

    python benchmarks/peers/pipeline.py --model MODEL --input texts.txt                     # finds its best first
    python benchmarks/peers/pipeline.py --model MODEL --input texts.txt --batch 8 --dtype bf16

A sweep over 1,000 of the texts, batch sizes 1 to 64 in bf16 and fp32, tells the best. Prints JSON: sentences a second
over all texts, opening the model left out, and the labels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from bertwright.device import pick_device

BATCHES = (1, 2, 4, 8, 16, 32, 64)
TYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
SWEPT = 1000


def speed_of(ask: Any, texts: list[str], *, batch: int) -> tuple[float, list[str]]:
    """Return sentences a second, and the labels."""
    began = time.perf_counter()
    answers = ask(texts, batch_size=batch, truncation=True)
    return len(texts) / (time.perf_counter() - began), [answer["label"] for answer in answers]


def open_pipelines(model: str, types: Sequence[str]) -> dict[str, Any]:
    """Return the model's pipeline in each of these types, warm."""
    transformers.logging.set_verbosity_error()
    opened = {
        name: transformers.pipeline("text-classification", model=model, dtype=TYPES[name], device=pick_device())
        for name in types
    }
    for ask in opened.values():
        ask(["a text"] * 64, batch_size=8)
    return opened


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--dtype", choices=TYPES)
    options = parser.parse_args()
    texts = [line for line in options.input.read_text(encoding="utf-8").split("\n") if line.strip()]
    pipelines = open_pipelines(options.model, [name for name in TYPES if options.dtype in (None, name)])
    sizes = BATCHES if options.batch is None else (options.batch,)
    swept = {}
    if len(pipelines) * len(sizes) > 1:
        some = texts[:: max(1, len(texts) // SWEPT)][:SWEPT]
        swept = {(name, size): speed_of(ask, some, batch=size)[0] for name, ask in pipelines.items() for size in sizes}
    dtype, batch = max(swept, key=swept.__getitem__) if swept else (next(iter(pipelines)), sizes[0])
    speed, labels = speed_of(pipelines[dtype], texts, batch=batch)
    figures = {
        "sentences_per_second": round(speed, 1),
        "dtype": dtype,
        "batch": batch,
        "swept": {f"{name} {size}": round(value, 1) for (name, size), value in swept.items()},
        "labels": labels,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
