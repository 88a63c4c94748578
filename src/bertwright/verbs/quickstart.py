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
from bertwright.inference.pretrained_predictor import fill_mask
from bertwright.inspection.example_texts import QUESTIONS
from bertwright.log import Block, Lines, ResultTable, note
from bertwright.reports.quickstart_result import learned_rows, machine_sentence, outlook
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.setup.pretrain_config import resolve
from bertwright.verbs.prepare import prepare
from bertwright.verbs.pretrain import pretrain

VOCAB_SIZE = 4096
"""Small, because the corpus is: every word piece should be seen often in minutes of training."""

RECIPE = "classic-fast"
SETTINGS: dict[str, Any] = {"size": "tiny", "engine": {"evaluation_rows": 512, "snapshots": 8}}
"""What makes sensible predictions in minutes: a small model sees the corpus often where a larger one sees it once."""


def quickstart(out: Path | str = "quickstart", *, minutes: float = 4.0) -> Result:
    """Train a small BERT on the documentation of your own Python, offline, in under five minutes.

    Prepares `builtin:python-docs`, pre-trains on it, and shows what was learned; returns the figures of the run.

    Parameters
    ----------
    out
        Folder for the prepared data (OUT/data) and the run (OUT/run).
    minutes
        Minutes of training; preparation and evaluation come on top. Half a minute is enough for a first look; under
        two minutes nothing is compiled.

    Raises
    ------
    OutputExistsError
        Where `out` holds something already, and ConfigError for `minutes` that are none, before anything is written.
    """
    out = Path(out)
    refuse_existing(out, instead="give another --out, or delete it")
    settings = {**SETTINGS, "schedule": {"minutes": minutes}}
    resolve(RECIPE, settings)
    note("1/3 preparing the documentation of this Python and its packages (builtin:python-docs)")
    data = prepare(["builtin:python-docs"], out / "data", vocab_size=VOCAB_SIZE, language="en", valid_fraction=0.03)
    note(f"2/3 pre-training with masked words and next sentences for {minutes:g} minutes")
    run = pretrain(out / "data", out / "run", recipe=RECIPE, settings=settings)
    note("3/3 predicting masked words")
    answers = fill_mask(load_model(out / "run" / "model"), load_tokenizer(out / "run" / "model"), QUESTIONS, top_k=4)
    predictions = dict(zip(QUESTIONS, answers, strict=True))
    rows = [[text, *(f"{word} {share:.0%}" for word, share in answer)] for text, answer in predictions.items()]
    return Result(
        {**run, "data": data, "predictions": predictions},
        *data.blocks,
        *run.blocks,
        ResultTable("predictions for [MASK]", ["sentence", "1st", "2nd", "3rd", "4th"], rows),
        *explained(out, run),
        Lines(next_steps(out)),
    )


def explained(out: Path, figures: Mapping[str, Any]) -> list[Block]:
    """Return what the held-out figures mean, what this machine did, and what more minutes would bring."""
    data = out / "data"
    frequencies = load_or_count(data, Shards.open(data, "train"), VOCAB_SIZE).frequencies
    rows = learned_rows(figures, commonest=float(frequencies.max() / frequencies.sum()))
    lines = read_metrics(out / "run" / "metrics.jsonl")
    return [
        ResultTable(
            "what it learned, on text it was not trained on", ["figure", "this model", "without learning"], rows
        ),
        Lines([machine_sentence(figures), outlook(lines)]),
    ]


def next_steps(out: Path) -> list[str]:
    """Return lines that say where everything lies and what to type next."""
    run = out / "run"
    command = "bertwright" if shutil.which("bertwright") else sys.argv[0]
    return [
        f"model folder   {run / 'model'}   (loads in transformers: BertForPreTraining.from_pretrained)",
        f"report         {run / 'report.html'}   (curves and predictions; open it in a browser)",
        f"look inside    {command} inspect {run} --out {out / 'inside.html'}",
        f'next           {command} predict --model {run / "model"} "Return the [MASK] of the list."',
        f"               {command} show {out / 'data'} --batch 0",
        f"               {command} prepare YOUR_TEXT --out data && {command} pretrain --data data --out run",
    ]
