"""Looks inside what bertwright makes: documents of a DATA folder or a shard, a run, a model.

Only a run brings torch along, so that the rest answers at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.config import read_toml
from bertwright.corpus.shards import Shard, Shards, read_manifest
from bertwright.errors import DataError, InputError, ModelError, UsageError
from bertwright.files import human_bytes, read_json
from bertwright.log import print_facts, print_table, results
from bertwright.reports.checkpoint_table import show_checkpoint
from bertwright.reports.model_table import show_model
from bertwright.reports.text import sentence_text
from bertwright.tasks.metrics import with_perplexity
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

FIRST_DOCUMENTS = 3
FIRST_SENTENCES = 6
METRIC_LINES = 12
Columns = dict[str, tuple[str, str]]
"""Columns of the table of a run: where each comes from in a line of metrics.jsonl, and how it is written."""
TASK_METRICS: Columns = {
    "minutes": ("seconds", ".1f"),
    "loss": ("loss", ".3f"),
    "rate": ("learning_rate", ".1e"),
    "tokens/s": ("tokens_per_second", ",.0f"),
}
METRICS: Columns = {
    "minutes": ("seconds", ".1f"),
    "loss": ("loss", ".3f"),
    "MLM": ("mlm_loss", ".3f"),
    "NSP": ("nsp_loss", ".3f"),
    "length": ("length", "d"),
    "rate": ("learning_rate", ".1e"),
    "tokens/s": ("tokens_per_second", ",.0f"),
    "held-out MLM": ("mlm_loss", ".3f"),
    "held-out perplexity": ("mlm_perplexity", ",.1f"),
    "held-out NSP": ("nsp_accuracy", ".1%"),
    "held-out NSP, balanced": ("nsp_balanced_accuracy", ".1%"),
}
OF_VALID = ("held-out ", "dev ")
"""How the names of columns begin that come from the figures of an evaluation."""


def show(thing: Path, *, split: str = "train", document: int | None = None) -> None:
    """Print what `thing` holds to stdout: a DATA folder, a shard, a RUN, a checkpoint of one, or a MODEL folder.

    Raises InputError where it is none of them, DataError or ModelError where it is damaged.
    """
    kind = kind_of_folder(thing)
    if document is not None and kind not in ("data", "shard"):
        raise UsageError(f"--document looks into a DATA folder or a shard, and {thing} is a {kind} folder")
    if kind == "run":
        show_run(thing)
    elif kind == "model":
        show_model(thing)
    elif kind == "checkpoint":
        show_checkpoint(thing)
    elif kind == "shard":
        shards, words = Shards([Shard.open(thing)], fingerprint=""), load_tokenizer(thing.parent)
        shards.check(words.vocab_size)
        show_documents(shards, words, title=str(thing), document=document)
    else:
        show_counts(thing)
        shards = Shards.open(thing, split)
        show_documents(shards, load_tokenizer(thing), title=f"{thing}, {split}", document=document)


def kind_of_folder(thing: Path) -> str:
    """Return "data", "shard", "run", "checkpoint" or "model"; raises InputError where `thing` is none of them."""
    if thing.is_file() and thing.suffix == ".arrow":
        return "shard"
    if (thing / "config.toml").is_file():
        return "run"
    if (thing / "position.json").is_file():
        return "checkpoint"
    if (thing / "config.json").is_file() or (thing / "modules.json").is_file():
        return "model"
    if (thing / "manifest.json").is_file():
        return "data"
    what = "does not exist" if not thing.exists() else "holds nothing bertwright makes"
    raise InputError(f"{thing} {what}; give a DATA folder, a shard (.arrow), a RUN folder or a MODEL folder")


def show_counts(data: Path) -> None:
    """Print what a DATA folder holds, split by split."""
    manifest = read_manifest(data)
    names = ("documents", "sentences", "words", "tokens")
    rows = [
        [split, *(f"{figures[name]:,}" for name in names), human_bytes(sum(s["bytes"] for s in figures["shards"]))]
        for split, figures in manifest["splits"].items()
    ]
    tokenizer = manifest["tokenizer"]
    title = f"{data}: {manifest['language']}, {tokenizer['kind']} of {tokenizer['vocab_size']:,} tokens"
    print_table(title, ["split", *names, "size"], rows)


def show_documents(shards: Shards, tokenizer: Tokenizer, *, title: str, document: int | None) -> None:
    """Print document number `document` whole, or the beginnings of the first few; a sentence a line, words apart."""
    count = shards.document_count
    if document is not None and not 0 <= document < count:
        raise UsageError(f"{title} holds documents 0 to {count - 1:,}, not {document:,}")
    numbers = range(min(FIRST_DOCUMENTS, count)) if document is None else [document]
    for number in numbers:
        show_document(shards, tokenizer, number, most=FIRST_SENTENCES if document is None else None)


def show_document(shards: Shards, tokenizer: Tokenizer, number: int, *, most: int | None) -> None:
    """Print one document, at most the first `most` sentences of it."""
    ends = shards.sentence_ends(number).astype(np.int64)
    ids, words = shards.tokens(number), shards.word_starts(number)
    if ids.max() >= tokenizer.vocab_size:
        raise DataError(
            f"document {number} has token {ids.max()}, and {tokenizer.path} has {tokenizer.vocab_size}; "
            "this is not the tokenizer it was encoded with"
        )
    console = results()
    figures = f"{len(ends):,} sentences, {int(words.sum()):,} words, {len(ids):,} tokens"
    console.print(f"\ndocument {number}: {figures}", style="bold", markup=False)
    starts = np.concatenate([[0], ends[:-1]])
    for place, (start, end) in enumerate(zip(starts[:most], ends[:most], strict=True)):
        line = sentence_text(tokenizer.tokens, ids[start:end], words[start:end])
        console.print(f"{place:>5}  {line}", markup=False, emoji=False, soft_wrap=True)
    if most is not None and len(ends) > most:
        console.print(f"       ... {len(ends) - most:,} more; all of it: --document {number}", markup=False)


def show_run(run: Path) -> None:
    """Print the figures of a run and the course of its loss; a run that is not done shows the course alone."""
    from bertwright.train.callbacks.metrics_file import read_metrics

    task = task_of_run(run)
    try:
        lines = read_metrics(run / "metrics.jsonl")
        if (run / "result.json").is_file():
            _print_result(run, read_json(run / "result.json"), task)
        columns = task_columns(lines) if task else METRICS
        course = metric_rows(lines, columns)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ModelError(f"{run} is damaged ({error!r}); its config.toml says how to run it again") from error
    if not lines:
        raise ModelError(f"{run} has no metrics yet; look again once it has made some steps")
    print_table(f"{run}, along training", ["step", *columns], course)


def task_of_run(run: Path) -> str | None:
    """Return the task of a fine-tuning run, as its config.toml has it; None where it is one of pre-training."""
    task = read_toml(run / "config.toml").get("task")
    return task if isinstance(task, str) else None


def _print_result(run: Path, figures: Mapping[str, Any], task: str | None) -> None:
    if task:
        from bertwright.reports.finetune_result import print_scores

        print_scores(figures)
    else:
        from bertwright.reports.pretrain_result import facts

        print_facts(str(run), facts(figures))


def task_columns(lines: Sequence[Mapping[str, Any]]) -> Columns:
    """Return the columns of a fine-tuning run: the usual ones, and each figure on dev."""
    figures = dict.fromkeys(name for line in lines for name in line.get("valid") or {})
    return TASK_METRICS | {f"dev {name.replace('_', ' ')}": (name, ".4f") for name in figures}


def metric_rows(lines: Sequence[Mapping[str, Any]], columns: Columns) -> list[list[str]]:
    """Return a dozen lines of a metrics file, evenly spread, as a table: of those with held-out figures, if any."""
    judged = [line for line in lines if line.get("valid")] or list(lines)
    chosen = {round(place) for place in np.linspace(0, len(judged) - 1, METRIC_LINES)} if judged else set()
    rows = []
    for line in (judged[place] for place in sorted(chosen)):
        row = [f"{line['step']:,}"]
        for name, (key, shape) in columns.items():
            value = (with_perplexity(line.get("valid") or {}) if name.startswith(OF_VALID) else line).get(key)
            row.append("" if value is None else format(value / 60 if name == "minutes" else value, shape))
        rows.append(row)
    return rows
