"""Turns a fine-tuned model and a labelled file into figures: of a task with a head, of vectors, or of translations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bertwright.config import compose
from bertwright.device import pick_device
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_decoder
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.hub.task_folder import read_fine_tuned
from bertwright.inference.embedder import open_embedder
from bertwright.inference.predictors import task_of
from bertwright.inference.scoring import score_rows
from bertwright.inference.translation import TranslationPredictor, translation_loss
from bertwright.log import Block, Facts, note
from bertwright.result import Result
from bertwright.tasks.base import Task
from bertwright.tasks.classification.task import Classify, positive_of
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import Sentences, read_sentences
from bertwright.tasks.embedding.task import Embed, evaluate_vectors
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import score_texts
from bertwright.tasks.translation.reader import SidesConfig
from bertwright.tasks.translation.task import Translate
from bertwright.tasks.unlabelled import no_labels, refuse_unlabelled
from bertwright.tokenizer.load import load_tokenizer


def evaluate_task(
    name: str, folder: Path, file: Path, columns: Mapping[str, Any], *, positive: str | None = None
) -> Result:
    """Return the figures of a model of the task called `name` on a labelled file, in float32, and the task's own table.

    `columns` are those of ColumnsConfig, for translate those of SidesConfig; `positive` is the class of two whose F1 is
    reported. Raises UsageError where the model was trained for another task, ModelError where the folder has no
    model of one, and InputError as `finetune` does.
    """
    words: dict[str, str] = {}
    if name == Translate.name:
        result, words = _evaluate_translation(folder, file, compose(SidesConfig, columns))
    elif name == Embed.name:
        result = _evaluate_vectors(folder, file, compose(ColumnsConfig, columns))
    else:
        result, positive = _evaluate_head(name, folder, file, compose(ColumnsConfig, columns), positive=positive)
    names = figure_names(result.figures, positive=positive)
    facts = {shown: f"{result.figures[key]:.4f}" for key, shown in names.items()} | words
    if result.warning:
        note(result.warning)
    blocks: list[Block] = [Facts(f"{folder} on {file}", facts)]
    if result.table is not None:
        blocks.append(result.table)
    return Result(result.figures, *blocks)


def _evaluate_head(
    name: str, folder: Path, file: Path, columns: ColumnsConfig, *, positive: str | None
) -> tuple[EvalResult, str | None]:
    """Return how good a model with a head is, and the class whose F1 is reported."""
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
    return task.evaluate(logits, encoded.examples), task.positive


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
    if not is_sentence_folder(folder):
        raise ModelError(f"{folder} is no model of sentence vectors; give what `bertwright finetune embed` wrote")
    examples = read_pairs_of_texts(file, columns)
    return evaluate_vectors(open_embedder(folder).vectors(examples.texts), examples)


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
