"""Turns a fine-tuned model and a labelled file into figures: of a task with a head, of vectors, or of translations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bertwright.config import compose
from bertwright.device import pick_device
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_decoder
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.hub.task_folder import read_fine_tuned
from bertwright.inference.embedder import open_embedder
from bertwright.inference.error_slices import compare_slices, slices_of
from bertwright.inference.predictors import task_of
from bertwright.inference.scoring import score_rows
from bertwright.inference.translation import TranslationPredictor, translation_loss
from bertwright.log import Block, Facts, ResultTable, note
from bertwright.result import Result
from bertwright.tasks.base import Task
from bertwright.tasks.bootstrap import Difference, paired_bootstrap
from bertwright.tasks.classification.task import Classify, positive_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import Sentences, read_sentences
from bertwright.tasks.embedding.task import Embed, evaluate_vectors, resampled_vectors
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import score_texts
from bertwright.tasks.translation.reader import SidesConfig
from bertwright.tasks.translation.task import Translate
from bertwright.tasks.unlabelled import no_labels, refuse_unlabelled
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

WORST, LONGEST_TEXT = 20, 200
"""Errors that are shown, and characters of each."""


@dataclass(frozen=True)
class Scored:
    """What a model with a head gives for a labelled file: its task, examples and logits [Q, outputs], in float32."""

    task: Task[Any]
    examples: Any
    logits: np.ndarray


def evaluate_task(
    name: str,
    folder: Path,
    file: Path,
    columns: Mapping[str, Any],
    *,
    positive: str | None = None,
    against: Path | None = None,
    errors: bool = False,
) -> Result:
    """Return the figures of a model of the task called `name` on a labelled file, in float32, and the task's own table.

    `columns` are those of ColumnsConfig, for translate those of SidesConfig; `positive` is the class of two whose F1 is
    reported; `against` is another model that it is compared with; `errors` asks where predictions are wrong. Raises
    UsageError where a model was trained for another task, ModelError where a folder has no model of one, and InputError
    as `finetune` does.
    """
    if against is not None:
        return compare_models(name, (folder, against), file, compose(ColumnsConfig, columns), positive=positive)
    words: dict[str, str] = {}
    if name == Translate.name:
        result, words = _evaluate_translation(folder, file, compose(SidesConfig, columns))
    elif name == Embed.name:
        result = _evaluate_vectors(folder, file, compose(ColumnsConfig, columns))
    else:
        scored = score_file(name, folder, file, compose(ColumnsConfig, columns), positive=positive)
        result = scored.task.evaluate(scored.logits, scored.examples, mistakes=WORST if errors else 0)
        positive = scored.task.positive
    names = figure_names(result.figures, positive=positive)
    facts = {shown: f"{result.figures[key]:.4f}" for key, shown in names.items()} | words
    if result.warning:
        note(result.warning)
    blocks: list[Block] = [Facts(f"{folder} on {file}", facts)]
    if result.table is not None:
        blocks.append(result.table)
    if errors:
        found, more = _errors(scored, result, load_tokenizer(folder))
        return Result(result.figures | found, *blocks, *more)
    return Result(result.figures, *blocks)


def _errors(scored: Scored, result: EvalResult, tokenizer: Tokenizer) -> tuple[dict[str, Any], list[Block]]:
    """Return where predictions are wrong: by slices, by how sure they are, and the worst of them."""
    task = scored.task
    metric = "mean_squared_error" if "mean_squared_error" in task.metrics else task.metric
    slices = compare_slices(
        task.resampled(scored.logits, scored.examples),
        slices_of(task.counted(scored.examples), tokenizer, task.labels),
        metric=metric,
    )
    shown = metric.replace("_", " ")
    rows = [
        [
            f"{one['by']}: {one['slice']}", f"{one['examples']:,}", f"{one[metric]:.3f}", f"{one['difference']:+.3f}",
            f"{one['low']:+.3f} to {one['high']:+.3f}", f"{one['p']:.3f}", "worse" if one["worse"] else "",
        ]
        for one in slices
    ]  # fmt: skip
    header = ["slice", "examples", shown, "against the rest", "95% interval", "p", ""]
    figures: dict[str, Any] = {"slices": slices, "errors": [asdict(one) for one in result.mistakes]}
    blocks: list[Block] = [ResultTable("slices of the file, each against the rest", header, rows)]
    if result.calibration is not None:
        bins = result.calibration.after
        columns = zip(bins.confidences.tolist(), bins.accuracies.tolist(), bins.counts.tolist(), strict=True)
        figures["reliability"] = [{"confidence": sure, "accuracy": right, "examples": n} for sure, right, n in columns]
        cells = [
            [f"{one['confidence']:.1%}", f"{one['accuracy']:.1%}", f"{one['examples']:,}"]
            for one in figures["reliability"]
        ]
        blocks.append(ResultTable("how sure, and how often right", ["confidence", "accuracy", "examples"], cells))
    worst = [[one.text[:LONGEST_TEXT], one.label, one.prediction] for one in result.mistakes]
    blocks.append(ResultTable("the worst errors", ["text", "label", "prediction"], worst))
    return figures, blocks


def score_file(name: str, folder: Path, file: Path, columns: ColumnsConfig, *, positive: str | None) -> Scored:
    """Return what a model with a head of the task called `name` gives for a labelled file."""
    opened = read_fine_tuned(folder)
    task = task_of(opened)
    if task.name != name:
        raise UsageError(f"{folder} was trained to {task.name}, not to {name}; evaluate {task.name} instead")
    if positive is not None:
        task = with_positive(task, positive)
    refuse_without_labels(task, file, columns, model=folder)
    task = task.with_columns(file, columns)
    encoder, device = TextEncoder(load_tokenizer(folder), max_length=opened.max_length), pick_device()
    encoded = task.encode(task.read(file), encoder)
    logits = score_rows(opened.model.to(device), encoded.rows, device=device)
    return Scored(task, encoded.examples, logits)


def compare_models(
    name: str, folders: tuple[Path, Path], file: Path, columns: ColumnsConfig, *, positive: str | None = None
) -> Result:
    """Return the figures of two models of one task on a file, and how sure their difference is, by a paired bootstrap.

    Raises UsageError for a task that has no such figures, or models whose labels differ.
    """
    if name == Translate.name:
        raise UsageError("--against compares models of tasks with a head, and of vectors; translate has none of them")
    if name == Embed.name:
        examples = read_pairs_of_texts(file, columns)
        every = [_vectors(folder, examples) for folder in folders]
        results = [evaluate_vectors(vectors, examples) for vectors in every]
        sides = [resampled_vectors(vectors, examples) for vectors in every]
        names = figure_names(results[0].figures)
    else:
        first = score_file(name, folders[0], file, columns, positive=positive)
        second = score_file(name, folders[1], file, columns, positive=positive or first.task.positive)
        if sorted(first.task.labels) != sorted(second.task.labels):
            raise UsageError(
                f"{folders[0]} and {folders[1]} have learned other labels; compare models of the same ones"
            )
        results = [one.task.evaluate(one.logits, one.examples) for one in (first, second)]
        sides = [one.task.resampled(one.logits, one.examples) for one in (first, second)]
        names = figure_names(results[0].figures, positive=first.task.positive)
    return _compared(folders, file, results, paired_bootstrap(*sides), names)


def _compared(
    folders: tuple[Path, Path],
    file: Path,
    results: Sequence[EvalResult],
    differences: Mapping[str, Difference],
    names: Mapping[str, str],
) -> Result:
    ours, theirs = (one.figures for one in results)
    rows = []
    for key, shown in names.items():
        found, cells = differences.get(key), [f"{ours[key]:.4f}", f"{theirs.get(key, math.nan):.4f}"]
        if found is not None:
            cells += [f"{found.value:+.4f}", f"{found.low:+.4f} to {found.high:+.4f}", f"{found.p:.4f}"]
        rows.append([shown, *cells, *[""] * (5 - len(cells))])
    header = ["figure", "model", "against", "difference", "95% interval", "p"]
    title = f"{folders[0]} against {folders[1]} on {file}"
    by_name = {key: asdict(one) for key, one in differences.items()}
    return Result({**ours, "against": theirs, "differences": by_name}, ResultTable(title, header, rows))


def refuse_without_labels(task: Task[Any], file: Path, columns: ColumnsConfig, *, model: Path) -> None:
    """Raise CorpusError where a file has no labels to compare predictions with, naming the way to predict it."""
    if isinstance(task, WholeTexts):
        refuse_unlabelled(file, columns, targets=task.target_names, model=model)
    elif task.with_columns(file, columns).unlabelled(file) is not None:
        raise CorpusError(no_labels(file, model))


def with_positive(task: Task[Any], name: str) -> Task[Any]:
    """Return a task whose F1 is that of the class `name`; raises UsageError where it has no such figure."""
    if not isinstance(task, Classify):
        raise UsageError("--positive is for classify of two classes, one label a text; leave it out")
    return replace(task, chosen_positive=positive_of(task.labels, name))


def _evaluate_vectors(folder: Path, file: Path, columns: ColumnsConfig) -> EvalResult:
    examples = read_pairs_of_texts(file, columns)
    return evaluate_vectors(_vectors(folder, examples), examples)


def _vectors(folder: Path, examples: Sentences) -> np.ndarray:
    """Return the vectors [U, H] of the texts of examples; raises ModelError where a folder has no model of any."""
    if not is_sentence_folder(folder):
        raise ModelError(f"{folder} is no model of sentence vectors; give what `bertwright finetune embed` wrote")
    return open_embedder(folder).vectors(examples.texts)


def read_pairs_of_texts(file: Path, columns: ColumnsConfig) -> Sentences:
    """Return the pairs, with a score or without, that vectors are evaluated on; raises CorpusError for texts alone."""
    examples = read_sentences(file, columns, kind=None)
    if examples.kind == "texts":
        raise CorpusError(
            f"{file} holds texts alone, on which nothing can be evaluated; give pairs, or pairs with a score (vectors "
            "of texts alone: bertwright embed)"
        )
    return examples


def _evaluate_translation(folder: Path, file: Path, sides: SidesConfig) -> tuple[EvalResult, dict[str, str]]:
    """Return BLEU, chrF and loss on parallel text, and the signatures of the first two."""
    if not is_encoder_decoder(folder):
        raise UsageError(f"{folder} does not translate; give a folder that `finetune translate` wrote as RUN/model")
    predictor = TranslationPredictor(read_encoder_decoder(folder))
    task = predictor.task
    examples = replace(task, sides=sides).read(file)
    rows = task.encode(examples, predictor.encoder).rows
    written = predictor.write(rows)
    loss = translation_loss(predictor.model, rows, device=predictor.device)
    signatures = score_texts(["a"], ["a"], lowercase=task.lowercase).signatures
    return task.evaluate(written, examples, loss=loss, mistakes=0), signatures
