"""Measures training speed beside the Hugging Face Trainer, in turn, on the same machine and data: tokens a second.

    python benchmarks/step_vs_huggingface.py --data DATA --out results/step_vs_huggingface.json

The peer: transformers.Trainer with BertForMaskedLM of the same shape, bf16, rows packed full (no padding), fused AdamW,
its own collator for masks, no NSP. Ours: `--recipe` as it is, with NSP and its padding; only real tokens are counted.
Each run is a process of its own; the first steps (warm-up, compilation) are left out on both sides. The two take turns,
and the ratio is of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

ROWS, LENGTH, SKIPPED = 64, 128, 10


def measure_peer(data: Path, size: str, steps: int, *, compiled: bool) -> float:
    """Return tokens a second of the Hugging Face Trainer over `steps` steps after the first SKIPPED."""
    import numpy as np
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from bertwright.corpus.shards import Shards
    from bertwright.model.config import SIZES
    from bertwright.tokenizer.load import load_tokenizer

    ours = load_tokenizer(data / "tokenizer")
    names = {f"{name}_token": ours.tokens[getattr(ours.special, name)] for name in ("pad", "unk", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(ours.path), **names)
    layers, hidden, heads, inner = SIZES[size]
    config = BertConfig(
        vocab_size=ours.vocab_size,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
    )
    stream = Shards.open(data, "train").shards[0].tokens[: (steps + SKIPPED) * ROWS * LENGTH].astype(np.int64)
    rows = [{"input_ids": row} for row in torch.from_numpy(stream.reshape(-1, LENGTH))]
    times: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            times.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir="/tmp/step-vs-huggingface",
        per_device_train_batch_size=ROWS,
        max_steps=steps + SKIPPED,
        bf16=True,
        learning_rate=1e-3,
        optim="adamw_torch_fused",
        torch_compile=compiled,
        logging_strategy="no",
        save_strategy="no",
        report_to=[],
        use_cpu=not torch.cuda.is_available(),
        disable_tqdm=True,
    )
    Trainer(
        model=BertForMaskedLM(config),
        args=arguments,
        train_dataset=rows,
        callbacks=[Clock()],
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
    ).train()
    return (len(times) - SKIPPED) * ROWS * LENGTH / (times[-1] - times[SKIPPED - 1])


def measure_ours(data: Path, size: str, steps: int, recipe: str) -> float:
    """Return real tokens a second of a recipe over `steps` steps after the first SKIPPED, padding not counted."""
    from bertwright.recipes.parts import build, compiled_step
    from bertwright.recipes.settings import resolve
    from bertwright.train.loop import Position, train

    phases = [{"length": LENGTH, "rows": ROWS, "share": 1.0}]
    config = resolve(recipe, {"size": size, "schedule": {"steps": steps + SKIPPED, "phases": phases}})
    parts = build(data, config)
    position, marks = Position(drawn=[0]), []
    for _ in train(compiled_step(parts), parts.sources, config.schedule, position=position, accumulation=1):
        marks.append((time.perf_counter(), position.tokens))
    (began, first), (ended, last) = marks[SKIPPED - 1], marks[-1]
    return (last - first) / (ended - began)


def in_process(arguments: argparse.Namespace, side: str) -> float:
    """Run one side in a process of its own and return its figure."""
    words = ["--data", str(arguments.data), "--size", arguments.size, "--steps", str(arguments.steps)]
    call = [sys.executable, __file__, *words, "--recipe", arguments.recipe, "--side", side]
    told = subprocess.run(call, check=True, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return float(told.stdout.strip().splitlines()[-1])


def main() -> None:
    """Measure both sides in turn and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", default="mini")
    parser.add_argument("--recipe", default="classic")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--side", choices=["peer", "peer-compiled", "ours"])
    arguments = parser.parse_args()
    if arguments.side:
        if arguments.side == "ours":
            print(measure_ours(arguments.data, arguments.size, arguments.steps, arguments.recipe))
        else:
            compiled = arguments.side == "peer-compiled"
            print(measure_peer(arguments.data, arguments.size, arguments.steps, compiled=compiled))
        return
    figures: dict[str, list[float]] = {"peer": [], "ours": []}
    for _ in range(arguments.turns):
        for side, values in figures.items():
            values.append(round(in_process(arguments, side), 1))
            print(f"{side}: {values[-1]:,.0f} tokens/s", file=sys.stderr)
    ratio = statistics.median(figures["ours"]) / statistics.median(figures["peer"])
    report = {
        "what": f"{arguments.size}, recipe {arguments.recipe}, {ROWS} rows of {LENGTH}, vocabulary of the data",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "tokens_per_second": figures,
        "ratio_of_medians": round(ratio, 2),
    }
    print(json.dumps(report, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
