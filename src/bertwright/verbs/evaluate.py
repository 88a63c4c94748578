"""Turns a model and held-out data into figures: of masked words, next sentences, minimal pairs or a task."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.corpus.shards import Shards, read_manifest
from bertwright.device import pick_device
from bertwright.errors import DataError, ModelError, UsageError
from bertwright.flags import with_flags
from bertwright.hub.nsp_folder import is_next_sentence_folder
from bertwright.inference.evaluate_task import evaluate_task
from bertwright.inference.minimal_pairs import minimal_pair_accuracy, read_minimal_pairs
from bertwright.inference.predictors import read_pretrained, require_head
from bertwright.inference.scoring import Head
from bertwright.log import note, print_facts, print_table
from bertwright.model.encoder import Encoder
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.tasks.by_name import TASKS, task_names
from bertwright.tasks.tagging.task import Tag
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.held_out import held_out_figures
from bertwright.train.setup.run import EVALUATION_ROWS, fixed_examples
from bertwright.verbs.calls.evaluation_rows import ROWS, HeldOutRows, choose_rows, compare_with_run, find_run

KINDS = ("mlm", "nsp", "minimal-pairs")


@with_flags("evaluate")
def evaluate(
    kind: str,
    model: Path | str,
    data: Path | str,
    *,
    split: str = "valid",
    length: int | None = None,
    num_rows: int | None = None,
    whole_word: bool | None = None,
    columns: Mapping[str, Any] | None = None,
    positive: str | None = None,
) -> dict[str, float]:
    """Return the figures of a MODEL folder on a split of a DATA folder, with fixed rows and masks, in float32.

    `kind` "mlm" packs full sentences of one document into rows of `length`; "nsp" makes sentence pairs and also gives
    the MLM figures on them, where the model has the head for those too. Up to `num_rows` rows, at most one pass. On the
    data of the run that wrote the model `length`, `num_rows` and `whole_word` are those of the run, elsewhere 128,
    4,096 and False, where not given. For "minimal-pairs" `data` is a .jsonl file of "good" and "bad" sentences (see
    `read_minimal_pairs`), of which up to `num_rows` pairs are taken, evenly spread. For a task such as "classify" it is
    a labelled file, all of it; `columns` are named as "text", "pair" and "label", for "translate" as "source" and
    "target"; `positive` is the class of two whose F1 is reported. Raises UsageError for another kind, DataError where
    model and data have different tokenizers, and ModelError where the model lacks the head it needs.
    """
    if kind not in KINDS and kind not in task_names():
        raise UsageError(f"nothing called {kind!r} can be evaluated; known: {', '.join((*KINDS, *task_names()))}")
    model, data, columns = Path(model), Path(data), columns or {}
    if not model.is_dir():
        raise ModelError(f"there is no model folder {model}; give the folder `pretrain` wrote as RUN/model")
    if positive is not None and kind not in TASKS:
        raise UsageError(f"--positive is for classify of two classes; {kind} has no use for it, so leave it out")
    if columns.get("label_names") and kind != Tag.name:
        raise UsageError(f"--label-names is for tag; {kind} has no use for it, so leave it out")
    if kind in task_names():
        result, shown = evaluate_task(kind, model, data, columns, positive=positive)
        print_facts(f"{model} on {data}", shown)
        if result.grid is not None:
            print_table(result.grid.title, result.grid.header, result.grid.rows)
        if result.warning:
            note(result.warning)
        return result.figures
    if kind == "minimal-pairs":
        return evaluate_pairs(
            model, data, most=ROWS if num_rows is None else num_rows, encoding=columns.get("encoding")
        )
    run = find_run(model, str(read_manifest(data)["fingerprint"])) if split == "valid" else None
    rows = choose_rows("nsp" if kind == "nsp" else "mlm", run, length=length, count=num_rows, whole_word=whole_word)
    figures = evaluate_held_out(model, data, rows, split=split)
    if run is not None:
        compare_with_run(rows, run, figures)
    return figures


def evaluate_held_out(model: Path, data: Path, rows: HeldOutRows, *, split: str) -> dict[str, float]:
    """Return the figures of a model on rows of a split, as `evaluate` does for "mlm" and "nsp"."""
    config = ObjectiveConfig(next_sentence=rows.kind == "nsp", whole_word=rows.whole_word)
    tokenizer, manifest = load_tokenizer(model), read_manifest(data)
    if hashlib.sha256(tokenizer.json_bytes).hexdigest() != manifest["tokenizer"]["sha256"]:
        raise DataError(
            f"{data} was prepared with another tokenizer than {model}'s; prepare it with --tokenizer {model}"
        )
    network = network_with_head(model, "next-sentence" if config.next_sentence else "masked-token")
    if rows.length > network.config.max_positions:
        raise UsageError(f"--length {rows.length} is past the model's {network.config.max_positions} positions")
    objective = build_objective(config, vocab_size=network.config.vocab_size, mask_id=tokenizer.special.mask)
    examples = fixed_examples(Shards.open(data, split), tokenizer, objective, length=rows.length, rows=rows.count)
    figures = held_out_figures(network, objective, examples, device=pick_device())
    if is_next_sentence_folder(model):
        figures = {name: value for name, value in figures.items() if name.startswith("nsp")}
    shown = {name.replace("_", " "): f"{value:.4f}" for name, value in figures.items()}
    entropy = {"unigram entropy of the training corpus": f"{manifest['unigram_entropy']:.4f}"}
    count = len(examples) * EVALUATION_ROWS
    print_facts(f"{model} on {data} ({split}, {count:,} rows of {rows.length})", {**shown, **entropy})
    if count < rows.count:
        note(
            f"{count:,} rows where up to {rows.count:,} were wanted: rows come in batches of {EVALUATION_ROWS}, and "
            "are at most one pass over the split"
        )
    return figures


def network_with_head(folder: Path, head: Head) -> Encoder:
    """Return the model of a folder on the fastest device; raises ModelError where it has no such head."""
    network, report = read_pretrained(folder)
    require_head(network, head, folder=folder, report=report)
    return network.to(pick_device())


def evaluate_pairs(model: Path, file: Path, *, most: int, encoding: str | None = None) -> dict[str, float]:
    """Return how often the good sentence is likelier than the bad one: of up to `most` pairs, and by field.

    The whole is the mean over paradigms, as BLiMP reports it. Raises CorpusError.
    """
    every = read_minimal_pairs(file, encoding)
    pairs = [every[index] for index in np.unique(np.linspace(0, len(every) - 1, most).round().astype(int))]
    figures = minimal_pair_accuracy(network_with_head(model, "masked-token"), load_tokenizer(model), pairs)
    shown = {name.replace("_", " "): f"{value:.1%}" for name, value in figures.items()}
    paradigms = len({pair.get("paradigm", "") for pair in pairs})
    counts = f"{len(pairs):,} of {len(every):,} pairs, {paradigms} paradigms"
    print_facts(f"{model} on {file}: {counts} (chance: 50%)", shown)
    return figures
