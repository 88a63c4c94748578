"""The whole walk on the embedded corpus: from the documentation of this very Python to a BERT that completes it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.corpus.cooccurrence import load_or_count
from bertwright.corpus.shards import Shards
from bertwright.files import refuse_existing
from bertwright.hub.encoder_folder import load_model
from bertwright.inference.fill_mask import fill_mask
from bertwright.log import note, print_table, results
from bertwright.reports.quickstart_result import learned_rows, machine_sentence, outlook
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.setup.pretrain_config import resolve
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

VOCAB_SIZE = 4096
"""Small, because the corpus is: every word piece should be seen often in minutes of training."""

QUESTIONS = (
    "Return True if the [MASK] is empty.",
    "Return a [MASK] of the object.",
    "The file does not [MASK].",
    "The default [MASK] is None.",
    "Compute the [MASK] of the tensor.",
)

RECIPE = "classic-fast"
SETTINGS: dict[str, Any] = {"size": "tiny", "engine": {"evaluation_rows": 512}}
"""What makes sensible predictions in minutes: a small model sees the corpus often where a larger one sees it once."""


def quickstart(out: Path | str, *, minutes: float = 4.0) -> dict[str, Any]:
    """Prepare `builtin:python-docs`, pre-train on it for `minutes`, and show what was learned; return the figures.

    Writes OUT/data and OUT/run. Raises OutputExistsError where OUT holds something already, and ConfigError for
    minutes that are none, both before anything is written.
    """
    out = Path(out)
    refuse_existing(out, instead="give another --out, or delete it")
    settings = {**SETTINGS, "schedule": {"minutes": minutes}}
    resolve(RECIPE, settings)
    note("1/3 preparing the documentation of this Python and its packages (builtin:python-docs)")
    prepare(["builtin:python-docs"], out / "data", vocab_size=VOCAB_SIZE, language="en", valid_fraction=0.03)
    note(f"2/3 pre-training with masked words and next sentences for {minutes:g} minutes")
    figures = pretrain(out / "data", out / "run", recipe=RECIPE, settings=settings)
    note("3/3 asking it to fill in words")
    print_predictions(out / "run" / "model")
    print_learned(out, figures)
    print_next_steps(out)
    return figures


def print_predictions(model: Path) -> None:
    """Print the model's best guesses for QUESTIONS as a table."""
    answers = fill_mask(load_model(model), load_tokenizer(model), list(QUESTIONS), top_k=4)
    rows = [
        [question, *(f"{word} {share:.0%}" for word, share in answer)]
        for question, answer in zip(QUESTIONS, answers, strict=True)
    ]
    print_table("what it says for [MASK]", ["sentence", "1st", "2nd", "3rd", "4th"], rows)


def print_learned(out: Path, figures: Mapping[str, Any]) -> None:
    """Print what the held-out figures mean, what this machine did, and what more minutes would bring."""
    data = out / "data"
    frequencies = load_or_count(data, Shards.open(data, "train"), VOCAB_SIZE).frequencies
    rows = learned_rows(figures, commonest=float(frequencies.max() / frequencies.sum()))
    print_table("what it learned, on text it was not trained on", ["figure", "this model", "without learning"], rows)
    lines = read_metrics(out / "run" / "metrics.jsonl")
    for sentence in (machine_sentence(figures), outlook(lines)):
        results().print(sentence, markup=False, soft_wrap=True)


def print_next_steps(out: Path) -> None:
    """Print where everything lies and what to type next."""
    run = out / "run"
    command = "bertwright" if shutil.which("bertwright") else sys.argv[0]
    lines = [
        f"model folder   {run / 'model'}   (loads in transformers: BertForPreTraining.from_pretrained)",
        f"report         {run / 'report.html'}   (curves and predictions; open it in a browser)",
        f'next           {command} predict --model {run / "model"} "Return the [MASK] of the list."',
        f"               {command} show {out / 'data'} --batch 0",
        f"               {command} prepare YOUR_TEXT --out data && {command} pretrain --data data --out run",
    ]
    for line in lines:
        results().print(line, markup=False, soft_wrap=True)
