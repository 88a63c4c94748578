"""Opens the model of a folder, of torch or exported, as the predictor that does what its head is for.

torch is imported where a model of torch is opened: an exported one does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import ModelError, UsageError
from bertwright.hub.crf_file import read_crf
from bertwright.hub.onnx.onnx_folder import OnnxFolder, is_onnx_folder, open_onnx
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.batching import Forward, cpu_policy, logits_of
from bertwright.inference.embedder import Embedder, exported_embedder, open_embedder
from bertwright.inference.pretrained_predictor import PretrainedPredictor
from bertwright.tasks.base import Task
from bertwright.tasks.by_name import TASK, task_of_head
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.embedding.metrics import cosines
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer

if TYPE_CHECKING:
    from bertwright.device import Precision
    from bertwright.hub.encoder_folder import LoadReport
    from bertwright.hub.task_folder import FineTunedFolder
    from bertwright.inference.bf16_rescoring import Margin
    from bertwright.inference.scoring import Head
    from bertwright.model.encoder import Encoder


def open_predictor(folder: Path, *, top_k: int = 5, precision: Precision = "auto") -> Predictor:
    """Return the model of a folder, ready to answer, on the fastest device.

    A fine-tuned model does its task. Classify gives label, probability and probabilities (labels and probabilities,
    where a text may have several); regress a score; tag entities with type, text, the characters they stand at and
    probability; answer the same of a span of the context; choose the most probable choice; rank the passages of a
    query, the best first. Texts past the model's positions are cut (split, for tag and answer), and a note says so. A
    model of sentence vectors gives the similarity of pairs, an encoder-decoder translations, a pre-trained one `top_k`
    words for each [MASK] and whether texts follow one another, one that finds replaced tokens the probability of each
    token. `precision` is that of tasks, see `predict`.

    Raises ModelError where the folder is damaged or lacks weights, and UsageError where onnxruntime is not installed.
    """
    if is_onnx_folder(folder):
        return _exported(open_onnx(folder), top_k=top_k)
    from bertwright.hub.encoder_decoder_folder import is_encoder_decoder, read_encoder_decoder
    from bertwright.hub.nsp_folder import is_next_sentence_folder
    from bertwright.hub.sentence_layout import is_sentence_folder
    from bertwright.hub.task_folder import head_type_of, read_fine_tuned
    from bertwright.inference.translation import TranslationPredictor

    if is_encoder_decoder(folder):
        return TranslationPredictor(read_encoder_decoder(folder))
    if is_sentence_folder(folder):
        return SimilarityPredictor(open_embedder(folder))
    if not folder.is_dir() or head_type_of(folder) is None or is_next_sentence_folder(folder):
        return _pretrained(folder, top_k=top_k)
    from bertwright.device import pick_device
    from bertwright.inference.bf16_rescoring import Bf16Rescorer

    opened = read_fine_tuned(folder)
    score = Bf16Rescorer(opened.model, device=pick_device(), margin=margin_of(opened), precision=precision)
    return TaskPredictor(task_of(opened), TextEncoder(load_tokenizer(folder), max_length=opened.max_length), score)


def _exported(opened: OnnxFolder, *, top_k: int) -> Predictor:
    if opened.head_type is None or opened.has_nsp_head:
        return PretrainedPredictor(
            load_tokenizer(opened.folder),
            partial(_exported_forward, opened),
            max_length=opened.max_length,
            top_k=top_k,
            policy=cpu_policy(),
            tells_order=opened.tells_order,
        )
    if opened.head_type == "vector":
        return SimilarityPredictor(exported_embedder(opened))
    task = task_of_head(opened.head_type, opened.problem, opened.labels, opened.extra_config)
    task = task.with_crf(read_crf(opened.folder, tags=len(opened.labels)))
    encoder = TextEncoder(load_tokenizer(opened.folder), max_length=opened.max_length)
    return TaskPredictor(task, encoder, partial(logits_of, opened.logits, policy=cpu_policy()))


def _exported_forward(opened: OnnxFolder, head: Head) -> Forward[np.ndarray]:
    """Return what gives the logits of a head of an exported model; raises ModelError where it was exported without."""
    if opened.has_nsp_head:
        if head == "masked-token":
            raise ModelError(f"{opened.folder} has no masked-token head; export the folder RUN/model of its run")
        return opened.logits
    if head == "masked-token":
        return opened.logits
    if "nsp_logits" not in opened.about["outputs"]:
        raise ModelError(f"{opened.folder} has no next-sentence head; export a folder pre-trained with one")
    return lambda arrays: opened.run(arrays)[1][:, None]


def _pretrained(folder: Path, *, top_k: int) -> Predictor:
    from bertwright.device import pick_device
    from bertwright.hub.encoder_folder import finds_replaced
    from bertwright.hub.nsp_folder import tells_order
    from bertwright.inference.replaced_tokens import ReplacedTokenPredictor
    from bertwright.inference.scoring import encoder_forward

    model, report = read_pretrained(folder)
    model.to(pick_device())
    if finds_replaced(model, report):
        return ReplacedTokenPredictor(model, load_tokenizer(folder))

    def forward(head: Head) -> Forward[np.ndarray]:
        require_head(model, head, folder=folder, report=report)
        return encoder_forward(model, head)

    max_length = model.config.max_positions
    return PretrainedPredictor(
        load_tokenizer(folder), forward, max_length=max_length, top_k=top_k, tells_order=tells_order(folder)
    )


def read_pretrained(folder: Path) -> tuple[Encoder, LoadReport]:
    """Return the pre-trained model of a folder, RUN/model or RUN/model-nsp, and what did not match.

    torch's random state stays as it was. Raises ModelError where the folder is not whole.
    """
    from bertwright.hub.encoder_folder import read_model
    from bertwright.hub.nsp_folder import is_next_sentence_folder, read_next_sentence
    from bertwright.model.random_state import kept_random_state

    with kept_random_state():
        return (read_next_sentence if is_next_sentence_folder(folder) else read_model)(folder)


def require_head(model: Encoder, head: Head, *, folder: Path, report: LoadReport) -> None:
    """Raise ModelError where a model has no such head, or its folder lacks the weights: answers would be noise."""
    from bertwright.hub.nsp_folder import lacks_head

    name = "nsp_head" if head == "next-sentence" else "mlm_head"
    if report.lacks(name) or (head == "next-sentence" and not model.has_nsp_head):
        raise lacks_head(folder, head)


class TaskPredictor(Predictor):
    """Does the task that a model was fine-tuned for."""

    def __init__(self, task: Task[Any], encoder: TextEncoder, score: Callable[[LabelledRows], np.ndarray]) -> None:
        """Take the task, what turns its texts into rows, and what gives the logits [Q, outputs] of rows."""
        self.task, self.encoder, self.score = task, encoder, score
        self.head_type, self.pairs = task.asks or task.head_type, task.pairs

    def predict(self, questions: Sequence[tuple[str, ...]]) -> Predictions:
        """Return what the task predicts for each question, a text or several that belong together."""
        encoded = self.task.encode(self.task.from_questions(questions), self.encoder)
        return self.task.predictions(self.score(encoded.rows), encoded.examples)


class SimilarityPredictor(Predictor):
    """Gives the cosine of the vectors of two texts."""

    head_type, pairs = "vector", True

    def __init__(self, embedder: Embedder) -> None:
        """Take what turns texts into vectors."""
        self.embedder = embedder

    def predict(self, questions: Sequence[tuple[str, ...]]) -> Predictions:
        """Return {"first", "second", "similarity"} for each pair; raises UsageError where one is a text alone."""
        if any(len(pair) != 2 for pair in questions):
            raise UsageError(
                f"{self.embedder.folder} says how alike two texts are: give pairs (a tab between the texts of a line), "
                "or ask `bertwright embed` for vectors"
            )
        number = {text: place for place, text in enumerate(dict.fromkeys(text for pair in questions for text in pair))}
        vectors = self.embedder.vectors(list(number))
        similarity = cosines(vectors[[number[a] for a, _ in questions]], vectors[[number[b] for _, b in questions]])
        return [
            {"first": first, "second": second, "similarity": value}
            for (first, second), value in zip(questions, similarity.tolist(), strict=True)
        ]


def task_of(folder: FineTunedFolder) -> Task[Any]:
    """Return the task a fine-tuned model was trained for."""
    return task_of_head(folder.model.head_type, folder.problem, folder.labels, folder.extra_config).with_crf(
        folder.model.crf
    )


def margin_of(folder: FineTunedFolder) -> Margin | None:
    """Return how far a prediction of a model is from another one; None where single logits do not tell."""
    from bertwright.inference.bf16_rescoring import class_margin, label_margin

    if folder.model.head_type in ("choice", "span") or folder.model.crf is not None or TASK in folder.extra_config:
        return None
    if folder.problem == "multi_label_classification":
        task = task_of(folder)
        return partial(label_margin, cuts=task.cuts) if isinstance(task, MultiLabel) else None
    return class_margin if folder.problem == "single_label_classification" else None
