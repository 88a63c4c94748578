"""Turns a pre-trained model and held-out data into figures: of masked words and next sentences, or of minimal pairs.

A run evaluates its model on rows of one length, so many of them, of pairs or of single segments. `evaluate` on the
same data takes the same rows, or says why its figures are others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertwright.corpus.manifest import bytes_per_token, read_manifest
from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.dataset import folder_names
from bertwright.device import pick_device
from bertwright.errors import BertwrightError, DataError, UsageError
from bertwright.files import read_json
from bertwright.hub.encoder_folder import GENERATOR, finds_replaced
from bertwright.hub.nsp_folder import FOLDER, ORDER_FOLDER, is_next_sentence_folder, require_question
from bertwright.inference.minimal_pairs import minimal_pair_accuracy, read_minimal_pairs
from bertwright.inference.predictors import read_pretrained, require_head
from bertwright.inference.scoring import Head
from bertwright.log import Facts, note
from bertwright.model.encoder import Encoder
from bertwright.objectives.combine import build_objective
from bertwright.objectives.config import ObjectiveConfig
from bertwright.result import Result
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.held_out import EVALUATION_ROWS, fixed_examples, held_out_figures, with_nats_per_byte
from bertwright.train.setup.pretrain_config import PretrainConfig, resume_settings

Kind = Literal["mlm", "nsp", "sop"]
PAIR_KINDS: tuple[Kind, ...] = ("nsp", "sop")
LENGTH, ROWS = 128, 4096
"""Of the rows on which a model is evaluated that has no run on the data."""
MODELS = ("model", FOLDER, ORDER_FOLDER, GENERATOR)
"""Folders of a run that hold its model."""
BROKEN = (BertwrightError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


@dataclass(frozen=True)
class HeldOutRows:
    """Held-out rows: how long, how many at most, and whether whole words are masked in them.

    They are pairs for "nsp", and pairs in order or swapped for "sop".
    """

    kind: Kind
    length: int = LENGTH
    count: int = ROWS
    whole_word: bool = False

    def __str__(self) -> str:
        """Return them in words."""
        pairs = {"mlm": "single segments", "nsp": "sentence pairs", "sop": "pairs in order or swapped"}[self.kind]
        return f"up to {self.count:,} rows of {self.length} tokens, {pairs}, {self.masks} masked"

    @property
    def masks(self) -> str:
        """What is masked, in words."""
        return "whole words" if self.whole_word else "single tokens"


@dataclass(frozen=True)
class TrainingRun:
    """The run that trained a model on the data, the rows it evaluated on, and its last figures on them."""

    folder: Path
    rows: HeldOutRows
    figures: Mapping[str, float]
    precision: str


def evaluate_held_out(
    kind: Kind,
    model: Path,
    data: Path,
    *,
    split: str = "valid",
    length: int | None = None,
    count: int | None = None,
    whole_word: bool | None = None,
) -> Result:
    """Return the figures of a model on rows of a split, as `evaluate` does for "mlm", "nsp" and "sop".

    What is not given is as in the run that trained the model on this data, else as for any model. Which rows they are,
    and what is masked in them, is "rows".
    """
    manifest = read_manifest(data)
    run = find_run(model, str(manifest["fingerprint"])) if split == "valid" else None
    given: dict[str, Any] = {"length": length, "count": count, "whole_word": whole_word}
    usual = HeldOutRows(kind) if run is None else run.rows
    rows = replace(usual, kind=kind, **{name: value for name, value in given.items() if value is not None})
    tokenizer = load_tokenizer(model)
    if hashlib.sha256(tokenizer.json_bytes).hexdigest() != manifest["tokenizer"]["sha256"]:
        raise DataError(
            f"{data} was prepared with another tokenizer than {model}'s; prepare it with --tokenizer {model}"
        )
    network = network_with_head(model, "masked-token" if kind == "mlm" else "next-sentence")
    if kind != "mlm":
        require_question(model, order=kind == "sop")
    if rows.length > network.config.max_positions:
        raise UsageError(f"--length {rows.length} is past the model's {network.config.max_positions} positions")
    config = ObjectiveConfig(names=("mlm",) if kind == "mlm" else ("mlm", kind), whole_word=rows.whole_word)
    objective = build_objective(config, vocab_size=tokenizer.vocab_size, mask_id=tokenizer.special.mask)
    examples = fixed_examples(Shards.open(data, split), tokenizer, objective, length=rows.length, rows=rows.count)
    found = held_out_figures(network, objective, examples, device=pick_device())
    figures = with_nats_per_byte(found, bytes_per_token(manifest, split))
    if is_next_sentence_folder(model):
        figures = {name: value for name, value in figures.items() if name.startswith(kind)}
    taken = len(examples) * EVALUATION_ROWS
    if taken < rows.count:
        note(
            f"{taken:,} rows where up to {rows.count:,} were wanted: rows come in batches of {EVALUATION_ROWS}, and "
            "are at most one pass over the split"
        )
    if run is not None:
        compare_with_run(rows, run, figures)
    shown = {name.replace("_", " "): f"{value:.4f}" for name, value in figures.items()}
    entropy = {"unigram entropy of the training corpus": f"{manifest['unigram_entropy']:.4f}"}
    which = {"split": split, "number": taken, "length": rows.length, "masked": rows.masks}
    title = f"{model} on {data} ({split}, {taken:,} rows of {rows.length}, {rows.masks} masked)"
    return Result({**figures, "rows": which}, Facts(title, {**shown, **entropy}))


def network_with_head(folder: Path, head: Head, *, or_discriminator: bool = False) -> Encoder:
    """Return the model of a folder on the fastest device.

    Raises ModelError where it has no such head, and does not find replaced tokens where it may do that instead.
    """
    network, report = read_pretrained(folder)
    if not (or_discriminator and finds_replaced(network, report)):
        require_head(network, head, folder=folder, report=report)
    return network.to(pick_device())


def find_run(model: Path, fingerprint: str) -> TrainingRun | None:
    """Return the run that wrote a MODEL folder, if it evaluated on the data of this fingerprint; None elsewhere."""
    run = model.resolve().parent
    if model.resolve().name not in MODELS or not all((run / name).is_file() for name in ("config.toml", "result.json")):
        return None
    try:
        config, manifest = resume_settings(run, {}), read_json(run / "manifest.json")
        figures = _figures_on(fingerprint, manifest, config, read_json(run / "result.json")["valid"])
        if figures is None:
            return None
        rows = HeldOutRows(
            next((kind for kind in PAIR_KINDS if kind in config.objective.chosen), "mlm"),
            config.schedule.phases[0].length,
            config.engine.evaluation_rows,
            config.objective.whole_word,
        )
        return TrainingRun(run, rows, figures, str(manifest["precision"]))
    except BROKEN:  # a run of another kind, or not whole: its model is evaluated all the same
        return None


def _figures_on(
    fingerprint: str, manifest: Mapping[str, Any], config: PretrainConfig, valid: Mapping[str, float]
) -> dict[str, float] | None:
    """Return what of the figures of a run is about the data of a fingerprint; None where nothing is."""
    if manifest["fingerprint"] == fingerprint:
        return dict(valid)
    prints = [one["fingerprint"] for one in manifest.get("mixture", {}).values()]
    if fingerprint not in prints:
        return None
    name = folder_names(config.folders(Path(manifest["data"])))[prints.index(fingerprint)]
    return {figure.removeprefix(f"{name}/"): value for figure, value in valid.items() if figure.startswith(f"{name}/")}


def compare_with_run(rows: HeldOutRows, run: TrainingRun, figures: Mapping[str, float]) -> None:
    """Note the figures that the run itself ended with, and why they are others where they may be."""
    known = {name: run.figures[name] for name in figures if name in run.figures}
    if not known:
        return
    ended = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in known.items())
    if rows == run.rows:
        why = "" if run.precision == "fp32" else f"; the run computed in {run.precision}, and here it is float32"
        note(f"the same rows and masks as in {run.folder}, which ended with {ended}{why}")
        return
    same = " (leave out --length, --num-rows and --whole-word)" if rows.kind == run.rows.kind else ""
    note(
        f"{run.folder} ended with {ended}, on other rows: {run.rows}; here {rows}. "
        f"`evaluate {run.rows.kind}`{same} takes its rows"
    )


def evaluate_pairs(model: Path, file: Path, *, most: int | None = None, encoding: str | None = None) -> Result:
    """Return how often the good sentence is more probable than the bad one: of up to `most` pairs, and by field.

    The whole is the mean over paradigms, as BLiMP reports it. Raises CorpusError.
    """
    every = read_minimal_pairs(file, encoding)
    places = np.linspace(0, len(every) - 1, ROWS if most is None else most).round().astype(int)
    pairs = [every[place] for place in np.unique(places)]
    network = network_with_head(model, "masked-token", or_discriminator=True)
    figures = minimal_pair_accuracy(network, load_tokenizer(model), pairs)
    paradigms = len({pair.get("paradigm", "") for pair in pairs})
    kinds = f"{paradigms} paradigm{'s' * (paradigms > 1)}"
    title = f"{model} on {file}: {len(pairs):,} of {len(every):,} pairs, {kinds} (chance: 50%)"
    return Result(figures, Facts(title, {name.replace("_", " "): f"{value:.1%}" for name, value in figures.items()}))
