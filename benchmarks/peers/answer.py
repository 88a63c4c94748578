"""The peer of `finetune answer`: Hugging Face Trainer with the stock class for question answering, on SQuAD files.

    python benchmarks/peers/answer.py --model DIR --train train.json --dev dev.json --epochs 2 --out peer.json

Prepared and read out as its own example does it: windows of 384 tokens that overlap by 128, the answer pointed at in
those that hold it and [CLS] in the others, the 20 best starts and ends of each window, answers of at most 30 tokens.
Fused AdamW, 10% warm-up, linear fall, batches grouped by length, bf16 autocast where the hardware multiplies it, the
best epoch on dev kept. Files are read and answers scored by bertwright, whose rules are tested against the official
ones. Prints JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from finetune import SKIPPED, Clock, summarise
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from bertwright.device import has_bfloat16, pick_device
from bertwright.tasks.question_answering.metrics import best_threshold, score_answers
from bertwright.tasks.question_answering.reader import Questions, read_squad
from bertwright.train.task_setup.finetune_config import resolve_finetune

CANDIDATES = 20
"""Best starts, and best ends, of a window that are looked at together."""
LONGEST_ANSWER = 30


@dataclass(frozen=True)
class Windows:
    """Windows as the Trainer takes them, and what reading them out needs: the question and characters of each."""

    rows: list[dict[str, Any]]
    question: list[int]
    offsets: list[list[tuple[int, int] | None]]
    """Characters of each token in the context; None outside it."""


def windows_of(questions: Questions, words: PreTrainedTokenizerBase) -> Windows:
    """Return the windows of all questions, with the tokens of the first true answer as targets."""
    encoded = words(
        [question.lstrip() for question in questions.questions],
        [questions.contexts[place] for place in questions.context_of],
        truncation="only_second",
        max_length=384,
        stride=128,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    rows, offsets = [], []
    for window, question in enumerate(encoded["overflow_to_sample_mapping"]):
        inside = [part == 1 for part in encoded.sequence_ids(window)]
        places = [span if own else None for span, own in zip(encoded["offset_mapping"][window], inside, strict=True)]
        begin, end = pointed(places, questions.spans[question].tolist())
        inputs = {name: encoded[name][window] for name in words.model_input_names if name in encoded}
        rows.append({**inputs, "start_positions": begin, "end_positions": end})
        offsets.append(places)
    return Windows(rows, list(encoded["overflow_to_sample_mapping"]), offsets)


def pointed(places: Sequence[tuple[int, int] | None], answer: Sequence[int]) -> tuple[int, int]:
    """Return the first and last token of an answer (characters from and to), or [CLS] twice where it is not there."""
    shown = [(token, span) for token, span in enumerate(places) if span is not None]
    if answer[0] < 0 or shown[0][1][0] > answer[0] or shown[-1][1][1] < answer[1]:
        return 0, 0
    within = [token for token, span in shown if span[0] < answer[1] and span[1] > answer[0]]
    return (within[0], within[-1]) if within else (0, 0)


def read_out(starts: np.ndarray, ends: np.ndarray, windows: Windows, questions: Questions) -> dict[str, float]:
    """Return F1 and exact match of the best spans; with the best threshold on these questions where some lack one."""
    best, predicted = np.full(len(questions), -np.inf), [""] * len(questions)
    nothing = np.full(len(questions), np.inf)
    for window, (question, places) in enumerate(zip(windows.question, windows.offsets, strict=True)):
        start, end = starts[window, : len(places)], ends[window, : len(places)]
        nothing[question] = min(nothing[question], start[0] + end[0])
        context = questions.contexts[questions.context_of[question]]
        for first in np.argsort(-start)[:CANDIDATES]:
            for last in np.argsort(-end)[:CANDIDATES]:
                begins, stops = places[first], places[last]
                if begins is None or stops is None or not first <= last < first + LONGEST_ANSWER:
                    continue
                if (score := start[first] + end[last]) > best[question]:
                    best[question], predicted[question] = score, context[begins[0] : stops[1]]
    exact, f1 = score_answers(predicted, questions.answers)
    answerable = np.array([bool(answers) for answers in questions.answers])
    if not answerable.all():
        doubts = nothing - best
        silent = doubts > best_threshold(f1, doubts, answerable).value
        exact, f1 = (np.where(silent, ~answerable, marks).astype(float) for marks in (exact, f1))
    return {"f1": float(f1.mean()), "exact": float(exact.mean())}


def run(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train one seed; return its figures on dev, and its speed in windows a second."""
    words = AutoTokenizer.from_pretrained(options.model)
    torch.manual_seed(seed)
    model = AutoModelForQuestionAnswering.from_pretrained(options.model, dtype=torch.float32)
    dev = read_squad(options.dev)
    train_windows, dev_windows = windows_of(read_squad(options.train), words), windows_of(dev, words)
    ours = resolve_finetune("answer", {})
    clock, device = Clock(), pick_device()

    def figures(predicted: Any) -> dict[str, float]:
        return read_out(*predicted.predictions[:2], dev_windows, dev)

    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=options.rows,
            per_device_eval_batch_size=64,
            num_train_epochs=options.epochs,
            learning_rate=options.learning_rate or ours.transfer.usual_rate(width=width, layers=layers),
            warmup_steps=ours.schedule.warmup,
            weight_decay=ours.optimizer.weight_decay,
            optim="adamw_torch_fused",
            bf16=has_bfloat16(device),
            train_sampling_strategy="group_by_length",
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="f1",
            logging_strategy="no",
            report_to=[],
            use_cpu=device.type == "cpu",
            disable_tqdm=True,
            seed=seed,
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=train_windows.rows,
            eval_dataset=dev_windows.rows,
            compute_metrics=figures,
            data_collator=DataCollatorWithPadding(words),
            callbacks=[clock],
        )
        began = time.perf_counter()
        trainer._get_eval_sampler = torch.utils.data.SequentialSampler  # it would group dev by length, too
        trainer.train()
        seconds = time.perf_counter() - began
        evaluated = figures(trainer.predict(dev_windows.rows))
    steady = clock.seconds[SKIPPED:]
    return {
        "seed": seed,
        "dev": evaluated,
        "examples_per_second": round(options.rows * len(steady) / sum(steady), 2),
        "training_seconds": round(sum(clock.seconds), 1),
        "seconds_with_evaluations": round(seconds, 1),
    }


def main() -> None:
    """Train every seed and print what came of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=3.0)
    parser.add_argument("--learning-rate", type=float, help="3e-5 x (768 / width)^2 where not given, as ours")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="the first of them")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    summarise("answer", [run(options, seed) for seed in range(options.seed, options.seed + options.seeds)], options.out)


if __name__ == "__main__":
    main()
