"""The peer of fine-tuning: Hugging Face Trainer with the stock class of a task, on the same files, epochs and rates.

    python benchmarks/peers/finetune.py classify --model DIR --train F --dev F --test F --seeds 3 --out peer.json
    python benchmarks/peers/finetune.py tag --model DIR --train F --dev F --steps 40          # speed alone

Its own tokenizer, collator (rows padded to the longest of their batch), fused AdamW, 10% warm-up, linear fall,
batches grouped by length, bf16 autocast where the hardware multiplies it, float16 on GPUs without; --plain leaves those
two at its defaults: float32, and rows at random. Files are read and figures computed by bertwright, so that both sides
are evaluated alike; each figure of ours is tested against scikit-learn, scipy or seqeval. The best epoch on dev is
kept, by the task's figure. Prints JSON; examples a second are of the training steps alone, first ones left out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gate import Gate
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bertwright.device import has_bfloat16, pick_device
from bertwright.tasks.base import Task, TrainFile
from bertwright.tasks.by_name import task_named
from bertwright.tasks.columns import ColumnsConfig
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.types import UNASKED

SKIPPED = 10
"""First steps left out of a speed."""


class Clock(TrainerCallback):  # type: ignore[misc]
    """Adds up the seconds of steps, evaluations between them not counted."""

    def __init__(self, gate: Gate | None = None) -> None:
        self.seconds: list[float] = []
        self.began, self.gate = 0.0, gate

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop it; where there is a gate, wait there."""
        self.seconds.append(time.perf_counter() - self.began)
        if self.gate is not None:
            rows = args.per_device_train_batch_size
            control.should_training_stop = not self.gate.step(examples=rows)


def encode(task: Task[Any], examples: Any, words: PreTrainedTokenizerBase, longest: int) -> list[dict[str, Any]]:
    """Return the examples as its tokenizer encodes them, with labels; first pieces alone are labelled for tags."""
    if task.head_type == "token":
        ends = np.cumsum(examples.counts)
        cuts = list(zip((ends - examples.counts).tolist(), ends.tolist(), strict=True))
        predicted = [
            word if words.tokenize(word) else words.unk_token for word in examples.words
        ]  # a label for every word
        sentences = [predicted[begin:end] for begin, end in cuts]
        encoded = words(sentences, is_split_into_words=True, truncation=True, max_length=longest)
        rows = []
        for place, (begin, _) in enumerate(cuts):
            of = encoded.word_ids(place)
            first = [word is not None and (at == 0 or of[at - 1] != word) for at, word in enumerate(of)]
            labels = [
                int(examples.targets[begin + word]) if is_first else UNASKED
                for word, is_first in zip(of, first, strict=True)
            ]
            rows.append({"input_ids": encoded["input_ids"][place], "labels": labels})
        return rows
    encoded = words(
        list(examples.first), examples.second and list(examples.second), truncation=True, max_length=longest
    )
    return [
        {**{name: values[place] for name, values in encoded.items()}, "labels": target}
        for place, target in enumerate(examples.targets.tolist())
    ]


def flat_logits(predictions: np.ndarray, labels: np.ndarray, task: Task[Any]) -> np.ndarray:
    """Return logits [Q, outputs] of everything asked, in the order of the examples."""
    if task.head_type != "token":
        return predictions.reshape(len(predictions), -1)
    flat: np.ndarray = predictions[labels != UNASKED]
    return flat


def fresh_model(folder: Path, task: Task[Any]) -> PreTrainedModel:
    """Return the stock class of the task on the pre-trained weights."""
    kind = AutoModelForTokenClassification if task.head_type == "token" else AutoModelForSequenceClassification
    return kind.from_pretrained(folder, num_labels=len(task.labels), problem_type=task.problem, dtype=torch.float32)


def run(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one seed; return its figures on each split, and its speed."""
    task, splits = task_named(options.task).from_train_file(TrainFile(options.train, ColumnsConfig()))
    examples = splits["train"]
    words = AutoTokenizer.from_pretrained(options.model)
    torch.manual_seed(seed)
    model = fresh_model(options.model, task)
    longest = min(512, model.config.max_position_embeddings)
    splits = {name: getattr(options, name) for name in ("dev", "test") if getattr(options, name)}
    read = {name: task.read(path) for name, path in splits.items()}
    ours = resolve_finetune(options.task, {})
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    rate = options.learning_rate or ours.transfer.usual_rate(width=width, layers=layers)
    pads = DataCollatorForTokenClassification(words) if task.head_type == "token" else DataCollatorWithPadding(words)
    clock = Clock(None if options.turn_steps is None else Gate(SKIPPED, options.turn_steps))
    device = pick_device()

    def figures(predicted: Any, of: Any) -> dict[str, float]:
        return task.evaluate(flat_logits(predicted.predictions, predicted.label_ids, task), of).figures

    with tempfile.TemporaryDirectory() as scratch:
        keeps = options.steps is None and options.turn_steps is None
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=options.rows,
            per_device_eval_batch_size=64,
            num_train_epochs=options.epochs,
            max_steps=-1 if keeps else (options.steps or 1_000_000) + SKIPPED,
            learning_rate=rate,
            warmup_steps=ours.schedule.warmup,
            weight_decay=ours.optimizer.weight_decay,
            optim="adamw_torch_fused",
            bf16=not options.plain and has_bfloat16(device),
            fp16=not options.plain and device.type == "cuda" and not has_bfloat16(device),
            torch_compile=options.compile,
            train_sampling_strategy="random" if options.plain else "group_by_length",
            eval_strategy="epoch" if keeps else "no",
            save_strategy="epoch" if keeps else "no",
            save_total_limit=1,
            load_best_model_at_end=keeps,
            metric_for_best_model=task.metric,
            logging_strategy="no",
            report_to=[],
            use_cpu=device.type == "cpu",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=encode(task, examples, words, longest),
            eval_dataset=encode(task, read["dev"], words, longest),
            compute_metrics=lambda predicted: figures(predicted, read["dev"]),
            data_collator=pads,
            callbacks=[clock],
        )
        trainer._get_eval_sampler = torch.utils.data.SequentialSampler  # it would group dev by length, too
        trainer.train()
        trainer.compute_metrics = None  # it knows the examples of dev alone
        evaluated: dict[str, Any] = {}
        for name, split in read.items() if keeps else ():
            evaluated[name] = figures(trainer.predict(encode(task, split, words, longest)), split)
    steady = clock.seconds[SKIPPED:]
    return {
        "seed": seed,
        **evaluated,
        "examples_per_second": round(options.rows * len(steady) / sum(steady), 2),
        "training_seconds": round(sum(clock.seconds), 1),
    }


def main() -> None:
    """Train every seed and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=["classify", "regress", "tag"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--test", type=Path)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, help="3e-5 x (768 / width)^2 where not given, as ours")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--plain", action="store_true", help="float32, rows at random")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--steps", type=int, help="measure the speed of so many steps, and judge nothing")
    parser.add_argument("--turn-steps", type=int, help="steps of a turn with another, see gate.py")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    seeds = [run(options, seed) for seed in range(options.seed, options.seed + options.seeds)]
    summarise(options.task, seeds, options.out)


def summarise(task: str, seeds: list[dict[str, Any]], out: Path | None) -> None:
    """Print what every seed gave, mean and spread of each figure, and write it to `out`."""
    report: dict[str, Any] = {"task": task, "seeds": seeds}
    for split in ("dev", "test"):
        if split in seeds[0]:
            report[split] = {name: _mean_spread([one[split][name] for one in seeds]) for name in seeds[0][split]}
    report["examples_per_second"] = statistics.median(one["examples_per_second"] for one in seeds)
    print(json.dumps(report))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _mean_spread(values: list[float]) -> dict[str, float]:
    return {"mean": statistics.fmean(values), "spread": statistics.stdev(values) if len(values) > 1 else 0.0}


if __name__ == "__main__":
    main()
