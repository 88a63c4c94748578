"""The peer: Hugging Face Trainer with BertForMaskedLM or ModernBertForMaskedLM, at its best flags, on a DATA folder.

    python benchmarks/peers/trainer.py --data DATA --architecture modernbert --size mini --minutes 30 --out peer
    python benchmarks/peers/trainer.py --data DATA --architecture bert --size mini --steps 30        # speed alone
    python benchmarks/peers/trainer.py --data DATA --turn-steps 20            # in turns with another, see gate.py

bf16 where the hardware multiplies it, float16 on GPUs that have no bf16, rows packed full as its own example does
(documents joined with their special tokens, cut every 128 tokens, no padding), fused AdamW, its own collator for the
masks, linear decay. With --minutes the time of a step is measured first, on a quiet machine, and the run is of the
steps that fit: every step then counts as what was measured, so that whatever else the machine does later is not held
against the peer, nor are compilation and judging. Prints JSON; --out also keeps the model and metrics.jsonl (held-out
loss along the way), which `curves.py` draws beside ours.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from evaluate_folders import evaluate, evaluation_rows
from gate import Gate
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    ModernBertConfig,
    ModernBertForMaskedLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bertwright.corpus.shards import Shards
from bertwright.device import has_bfloat16, pick_device
from bertwright.model.build import ARCHITECTURES
from bertwright.tokenizer.load import Tokenizer, load_tokenizer
from bertwright.types import MaskedBatch

SKIPPED, PROBED = 10, 40
"""Steps left out of a speed, and steps by which the speed is measured before a run of minutes."""


class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Documents joined with their special tokens and cut every `length` tokens."""

    def __init__(self, data: Path, tokenizer: Tokenizer, length: int) -> None:
        """Read the whole training split into memory, four bytes a token."""
        parts = []
        for shard in Shards.open(data, "train").shards:
            tokens, offsets = shard.tokens, shard.token_offsets.astype(np.int64)
            starts = np.zeros(len(tokens) + 2 * (len(offsets) - 1), dtype=np.int32)
            shift = 2 * np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) + 1
            starts[np.arange(len(tokens)) + shift] = tokens
            places = 2 * np.arange(len(offsets) - 1)
            starts[offsets[:-1] + places] = tokenizer.special.cls
            starts[offsets[1:] + places + 1] = tokenizer.special.sep
            parts.append(starts)
        stream = np.concatenate(parts)
        self.rows = torch.from_numpy(stream[: len(stream) // length * length].reshape(-1, length))

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        """Return one row."""
        return {"input_ids": self.rows[index].long()}


def build_model(architecture: str, size: str, tokenizer: Tokenizer, *, attention_dropout: float) -> PreTrainedModel:
    """Return a fresh model of one of our sizes, as its own config class draws it; ModernBERT all-global at 128."""
    sizes = ARCHITECTURES["bert" if architecture == "bert" else "modern"].config_type.sizes
    layers, hidden, heads, inner = sizes[size]
    shape: dict[str, Any] = {
        "vocab_size": tokenizer.vocab_size,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "pad_token_id": tokenizer.special.pad,
    }
    if architecture == "bert":
        return BertForMaskedLM(BertConfig(**shape, attention_probs_dropout_prob=attention_dropout))
    ends = {"cls_token_id": tokenizer.special.cls, "sep_token_id": tokenizer.special.sep}
    ends |= {"bos_token_id": tokenizer.special.cls, "eos_token_id": tokenizer.special.sep}
    config = ModernBertConfig(**shape, **ends, global_attn_every_n_layers=1, max_position_embeddings=512)
    return ModernBertForMaskedLM(config)


class Turns(TrainerCallback):  # type: ignore[misc]
    """Has the training stop and wait after its warm-up and after every turn."""

    def __init__(self, gate: Gate, tokens: int) -> None:
        """Count so many tokens a step."""
        self.gate, self.tokens = gate, tokens

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count the step."""
        control.should_training_stop = not self.gate.step(tokens=self.tokens)


class Clock(TrainerCallback):  # type: ignore[misc]
    """Notes when each step ended and, where a step's seconds are known, evaluates the model now and then."""

    def __init__(self, steps: int, step_seconds: float | None, examples: list[MaskedBatch], evaluations: int) -> None:
        """Evaluate after so many equal parts of the steps."""
        self.due = {steps * (part + 1) // evaluations for part in range(evaluations)}
        self.step_seconds, self.examples = step_seconds, examples
        self.marks: list[float] = []
        self.lines: list[dict[str, Any]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Take the time."""
        self.marks.append(time.perf_counter())
        done = len(self.marks)
        if self.step_seconds is not None and done in self.due:
            figures = evaluate(model.eval(), self.examples)
            model.train()
            self.lines.append({"step": done, "seconds": round(done * self.step_seconds, 2), "valid": figures})

    def median_step(self) -> float:
        """Return the median seconds of a step after the first ones."""
        return float(statistics.median(np.diff(self.marks[SKIPPED - 1 :])))


def train(
    options: argparse.Namespace, rows: Rows, *, steps: int, step_seconds: float | None, turns: Turns | None = None
) -> tuple[Trainer, Clock]:
    """Train a fresh model for so many steps; evaluate it along the way where the seconds of a step are given."""
    examples: list[MaskedBatch] = []
    if step_seconds is not None:
        examples = evaluation_rows(options.data, rows=1024, length=options.length, whole_word=False)
    torch.manual_seed(options.seed)
    device = pick_device()
    tokenizer = load_tokenizer(options.data / "tokenizer")
    dropout = options.attention_dropout
    model = build_model(options.architecture, options.size, tokenizer, attention_dropout=dropout)
    names = {
        f"{name}_token": tokenizer.tokens[getattr(tokenizer.special, name)]
        for name in ("pad", "unk", "cls", "sep", "mask")
    }
    words = PreTrainedTokenizerFast(tokenizer_file=str(tokenizer.path), **names)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=options.rows,
            max_steps=steps,
            bf16=has_bfloat16(device),
            fp16=device.type == "cuda" and not has_bfloat16(device),
            tf32=True if device.type == "cuda" and has_bfloat16(device) else None,
            dataloader_num_workers=options.workers,
            dataloader_persistent_workers=options.workers > 0,
            dataloader_drop_last=True,
            learning_rate=options.learning_rate,
            warmup_steps=max(1, steps // 20),
            weight_decay=0.01,
            optim="adamw_torch_fused",
            torch_compile=options.compile,
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            use_cpu=device.type == "cpu",
            disable_tqdm=True,
            seed=options.seed,
        )
        clock = Clock(steps, step_seconds, examples, options.evaluations)
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            callbacks=[clock] if turns is None else [turns],
            data_collator=DataCollatorForLanguageModeling(words, mlm_probability=options.mask_rate),
        )
        trainer.train()
    return trainer, clock


def main() -> None:
    """Train as the flags say and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--architecture", choices=["bert", "modernbert"], default="bert")
    parser.add_argument("--size", default="mini")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--mask-rate", type=float, default=0.15)
    parser.add_argument("--attention-dropout", type=float, default=0.1, help="of BERT; ModernBERT has none")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead")
    parser.add_argument("--seed", type=int, default=0)
    duration = parser.add_mutually_exclusive_group(required=True)
    duration.add_argument("--steps", type=int)
    duration.add_argument("--minutes", type=float)
    duration.add_argument("--turn-steps", type=int, help="steps of a turn")
    parser.add_argument("--tokens-per-second", type=float, help="measured before; else --minutes measures it first")
    parser.add_argument("--evaluations", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = Rows(options.data, load_tokenizer(options.data / "tokenizer"), options.length)
    step_tokens, speed = options.rows * options.length, options.tokens_per_second
    if options.turn_steps:
        turns = Turns(Gate(SKIPPED, options.turn_steps), step_tokens)
        train(options, rows, steps=1_000_000, step_seconds=None, turns=turns)
        return
    if options.minutes and speed is None:
        _, probe = train(options, rows, steps=SKIPPED + PROBED, step_seconds=None)
        speed = step_tokens / probe.median_step()
    seconds = step_tokens / speed if options.minutes else None
    steps = int(options.minutes * 60 / seconds) if seconds else options.steps + SKIPPED
    trainer, clock = train(options, rows, steps=steps, step_seconds=seconds)
    if not options.minutes:
        speed = step_tokens / clock.median_step()
    figures = {
        **{name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()},
        "steps": len(clock.marks),
        "tokens_per_second": round(speed, 1),
        "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
    }
    if options.out:
        trainer.save_model(str(options.out / "model"))
        shutil.copyfile(options.data / "tokenizer" / "tokenizer.json", options.out / "model" / "tokenizer.json")
        lines = "".join(json.dumps(line) + "\n" for line in clock.lines)
        (options.out / "metrics.jsonl").write_text(lines, encoding="utf-8")
        (options.out / "result.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
