"""Judges a pre-trained model: held-out masked words, next sentences, or which of two sentences it finds likelier."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any, Literal

import numpy as np

from bertwright.config import compose
from bertwright.corpus.readers.json_rows import json_objects
from bertwright.corpus.readers.rows import TableOptions
from bertwright.corpus.shards import Shards, read_manifest
from bertwright.device import pick_device
from bertwright.errors import CorpusError, DataError, ModelError, UsageError
from bertwright.flags import with_flags
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.nsp_folder import is_next_sentence_folder, lacks_head, read_next_sentence
from bertwright.inference.embed_predictor import evaluate_sentences
from bertwright.inference.minimal_pairs import prefers_first
from bertwright.inference.task_predictor import evaluate_task
from bertwright.inference.translation_predictor import evaluate_translation
from bertwright.log import note, print_facts
from bertwright.model.encoder import Encoder
from bertwright.model.random_state import kept_random_state
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.tasks.by_name import TASKS, task_names
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.task import Embed
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.translation.reader import SidesConfig
from bertwright.tasks.translation.task import Translate
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.held_out import EVALUATION_ROWS, fixed_examples, held_out_figures
from bertwright.verbs.own_run import ROWS, HeldOutRows, choose_rows, compared, find_own_run

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
    `evaluate_pairs`), of which up to `num_rows` pairs are taken, evenly spread. For a task such as "classify" it is a
    labelled file, all of it; `columns` are told as "text", "pair" and "label", for "translate" as "source" and
    "target"; `positive` is the class of two whose F1 is reported. Raises UsageError for another kind, DataError where
    model and data have different tokenizers, and ModelError where the model lacks the head asked for.
    """
    if kind not in KINDS and kind not in task_names():
        raise UsageError(f"nothing called {kind!r} can be evaluated; known: {', '.join((*KINDS, *task_names()))}")
    model, data = Path(model), Path(data)
    if not model.is_dir():
        raise ModelError(f"there is no model folder {model}; give the folder `pretrain` wrote as RUN/model")
    if positive is not None and kind not in TASKS:
        raise UsageError(f"--positive is for classify of two classes; {kind} has no use for it, so leave it out")
    if (columns or {}).get("label_names") and kind != Tag.name:
        raise UsageError(f"--label-names is for tag; {kind} has no use for it, so leave it out")
    if kind == Embed.name:
        return evaluate_sentences(model, data, compose(ColumnsConfig, columns or {}))
    if kind == Translate.name:
        return evaluate_translation(model, data, compose(SidesConfig, columns or {}))
    if kind in TASKS:
        return evaluate_task(kind, model, data, compose(ColumnsConfig, columns or {}), positive=positive)
    if kind == "minimal-pairs":
        return evaluate_pairs(
            model, data, most=ROWS if num_rows is None else num_rows, encoding=(columns or {}).get("encoding")
        )
    own = find_own_run(model, str(read_manifest(data)["fingerprint"])) if split == "valid" else None
    chosen = choose_rows("nsp" if kind == "nsp" else "mlm", own, length=length, count=num_rows, whole_word=whole_word)
    figures = evaluate_held_out(model, data, chosen, split=split)
    if own is not None and (comparison := compared(chosen, own, figures)):
        note(comparison)
    return figures


def evaluate_held_out(model: Path, data: Path, rows: HeldOutRows, *, split: str) -> dict[str, float]:
    """Return the figures of a model on rows of a split, as `evaluate` does for "mlm" and "nsp"."""
    config = ObjectiveConfig(next_sentence=rows.kind == "nsp", whole_word=rows.whole_word)
    tokenizer, manifest = load_tokenizer(model), read_manifest(data)
    if hashlib.sha256(tokenizer.json_bytes).hexdigest() != manifest["tokenizer"]["sha256"]:
        raise DataError(
            f"{data} was prepared with another tokenizer than {model}'s; prepare it with --tokenizer {model}"
        )
    device = pick_device()
    alone = is_next_sentence_folder(model)
    network = network_with_head(model, "next-sentence" if config.next_sentence else "masked-token").to(device)
    if rows.length > network.config.max_positions:
        raise UsageError(f"--length {rows.length} is past the model's {network.config.max_positions} positions")
    objective = build_objective(config, vocab_size=network.config.vocab_size, mask_id=tokenizer.special.mask)
    examples = fixed_examples(Shards.open(data, split), tokenizer, objective, length=rows.length, rows=rows.count)
    figures = held_out_figures(network, objective, examples, device=device)
    if alone:
        figures = {name: value for name, value in figures.items() if name.startswith("nsp")}
    shown = {name.replace("_", " "): f"{value:.4f}" for name, value in figures.items()}
    entropy = {"unigram entropy of the training corpus": f"{manifest['unigram_entropy']:.4f}"}
    count = len(examples) * EVALUATION_ROWS
    print_facts(f"{model} on {data} ({split}, {count:,} rows of {rows.length})", {**shown, **entropy})
    if count < rows.count:
        note(
            f"{count:,} rows where up to {rows.count:,} were asked: rows come in batches of {EVALUATION_ROWS}, and are "
            "at most one pass over the split"
        )
    return figures


@kept_random_state()
def network_with_head(folder: Path, head: Literal["next-sentence", "masked-token"]) -> Encoder:
    """Return the model of a folder, or raise ModelError where it has no such head."""
    if is_next_sentence_folder(folder):
        if head == "masked-token":
            raise lacks_head(folder, head)
        return read_next_sentence(folder)[0]
    network, report = read_model(folder)
    part = "nsp_head" if head == "next-sentence" else "mlm_head"
    if report.lacks(part) or (head == "next-sentence" and not network.has_nsp_head):
        raise lacks_head(folder, head, report)
    return network


def evaluate_pairs(model: Path, file: Path, *, most: int, encoding: str | None = None) -> dict[str, float]:
    """Return how often the good sentence is likelier than the bad one: of up to `most` pairs, and by field.

    `file` is JSON lines, or one array (also .gz or .zst), of objects with "good" and "bad", and "field" or "paradigm"
    where there are several, as BLiMP is distributed. The whole is the mean over paradigms, as BLiMP reports it. Raises
    CorpusError.
    """
    every = read_pairs(file, encoding)
    pairs = [every[index] for index in np.unique(np.linspace(0, len(every) - 1, most).round().astype(int))]
    network, tokenizer = network_with_head(model, "masked-token").to(pick_device()), load_tokenizer(model)
    right = prefers_first(network, tokenizer, [(pair["good"], pair["bad"]) for pair in pairs])
    by_paradigm, by_field = defaultdict(list), defaultdict(list)
    for pair, good in zip(pairs, right.tolist(), strict=True):
        by_paradigm[pair.get("paradigm", "")].append(good)
        by_field[pair.get("field", "")].append(good)
    overall = mean(mean(part) for part in by_paradigm.values())
    figures = {"accuracy": overall, **{name: mean(part) for name, part in sorted(by_field.items()) if name}}
    shown = {name.replace("_", " "): f"{value:.1%}" for name, value in figures.items()}
    counts = f"{len(pairs):,} of {len(every):,} pairs, {len(by_paradigm)} paradigms"
    print_facts(f"{model} on {file}: {counts} (chance: 50%)", shown)
    return figures


def read_pairs(file: Path, encoding: str | None = None) -> list[dict[str, str]]:
    """Return the objects of a JSON file of pairs; raises CorpusError naming the pair, or the line, that is none."""
    if not file.is_file():
        raise CorpusError(f'there is no file {file}; give JSON lines with "good" and "bad" sentences')
    rows = (row for _, some in json_objects(file, TableOptions(encoding=encoding)) for row in some)
    pairs: list[dict[str, str]] = []
    for number, pair in enumerate(rows, start=1):
        try:
            fields: dict[str, str] = {name: str(pair[name]) for name in ("paradigm", "field") if name in pair}
            pairs.append({"good": str(pair["good"]), "bad": str(pair["bad"]), **fields})
        except KeyError as error:
            raise CorpusError(
                f'{file} pair {number:,} should be an object with "good" and "bad" sentences (it has no {error})'
            ) from error
    if not pairs:
        raise CorpusError(f'{file} is empty; give JSON lines with "good" and "bad" sentences')
    return pairs
