"""Turns a prediction of a model into what each word of the text contributes to it, for `predict --explain`.

Which number is explained, targets.py says. Both methods compare with the same text with all its words masked.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bertwright.device import pick_device
from bertwright.errors import UsageError
from bertwright.hub.encoder_decoder_folder import is_encoder_decoder
from bertwright.hub.encoder_folder import LoadReport, finds_replaced
from bertwright.hub.nsp_folder import is_next_sentence_folder, tells_order
from bertwright.hub.onnx.onnx_folder import is_onnx_folder
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.hub.task_folder import FineTunedFolder, head_type_of, read_fine_tuned
from bertwright.inference.predictors import read_pretrained, require_head, task_of
from bertwright.inspection import targets
from bertwright.inspection.attribution import integrated_gradients, occlusion
from bertwright.inspection.targets import Target
from bertwright.inspection.word_rows import WordRow, tagged_row, word_row, words_in
from bertwright.model.encoder import Encoder
from bertwright.model.task_model import FineTuned
from bertwright.tasks.base import Task
from bertwright.tasks.classification.long_texts import ClassifyLong
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.ranking.task import Rank
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.pretokenize import PreTokenized
from bertwright.tasks.tagging.task import Tag
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import Tokenizer, load_tokenizer

KINDS = "run by torch that fill masks, tell next sentences, classify, regress, tag, answer, choose or rank"
"""Models whose predictions are explained."""


class Explainer(ABC):
    """Explains the predictions of one model."""

    tokenizer: Tokenizer
    embedding: nn.Embedding
    max_length: int

    @abstractmethod
    def targets(self, row: WordRow, prediction: dict[str, Any]) -> list[Target]:
        """Return the numbers that are explained of a prediction."""

    def explain(self, texts: Sequence[str], prediction: dict[str, Any]) -> list[dict[str, Any]]:
        """Return explanations of a prediction about one text or a pair (see `explanation`); none of an empty text.

        Raises InputError where they are longer than a row.
        """
        if isinstance(texts, PreTokenized):
            raise UsageError("--explain is for running texts, not for words that are cut already; leave it out")
        if not all(text.strip() for text in texts):
            return []
        row = self.row(texts, prediction)
        return [explanation(self.embedding, row, target) for target in self.targets(row, prediction)]

    def row(self, texts: Sequence[str], prediction: dict[str, Any]) -> WordRow:
        """Return the row that a prediction is about: that of a text or a pair."""
        return word_row(texts, self.tokenizer, max_length=self.max_length)


def explanation(embedding: nn.Embedding, row: WordRow, target: Target) -> dict[str, Any]:
    """Return what each word of a row contributes to a number.

    {"of", "unit", "value": the number, "masked": that of the row with all its words masked, "words": [{"word", "text":
    0 or 1, "start", "end": its characters, "gradients": integrated gradients, their sum is value - masked, "occlusion":
    value less that without this word}]}.
    """
    device = embedding.weight.device
    ids, masked = row.ids.to(device), row.hidden(range(len(row.words))).ids.to(device)
    value, parts = occlusion(target.score, ids, [word.tokens for word in row.words], mask=row.mask)
    gradients = integrated_gradients(target.score, embedding, ids, masked)
    with torch.no_grad():
        base = float(target.score(masked[None]))
    words = [
        {
            "word": row.surface(word), "text": word.text, "start": word.start, "end": word.end,
            "gradients": float(gradients[list(word.tokens)].sum()), "occlusion": part,
        }
        for word, part in zip(row.words, parts.tolist(), strict=True)
    ]  # fmt: skip
    return {"of": target.of, "unit": target.unit, "value": value, "masked": base, "words": words}


@dataclass(frozen=True)
class PretrainedExplainer(Explainer):
    """Explains the word behind each [MASK], or whether the second text of a pair follows."""

    folder: Path
    model: Encoder
    tokenizer: Tokenizer
    report: LoadReport

    @property
    def embedding(self) -> nn.Embedding:  # type: ignore[override]
        """Word embeddings."""
        return self.model.word_embeddings

    @property
    def max_length(self) -> int:  # type: ignore[override]
        """Positions of the model."""
        return self.model.config.max_positions

    def targets(self, row: WordRow, prediction: dict[str, Any]) -> list[Target]:
        """Return the log-odds of the likeliest token of each [MASK], or of the second text following."""
        require = partial(require_head, self.model, folder=self.folder, report=self.report)
        if "predictions" not in prediction:
            require("next-sentence")
            return [targets.next_target(self.model, row, name="in_order" if tells_order(self.folder) else "next")]
        require("masked-token")
        best = [self.tokens_at(row, place) for place in row.masks]
        return [
            targets.mask_target(self.model, row, place, token=token, name=words[0][0])
            for place, token, words in zip(row.masks, best, prediction["predictions"], strict=True)
        ]

    @torch.no_grad()
    def tokens_at(self, row: WordRow, place: int) -> int:
        """Return the likeliest token at a position."""
        ids = row.ids[None].to(self.embedding.weight.device)
        at = torch.full_like(ids[:, :1], place)
        hidden = self.model.encode(ids, row.types[None].to(ids), torch.ones_like(ids, dtype=torch.bool), at)
        return int(self.model.mlm_logits(hidden)[0, 0, : self.tokenizer.vocab_size].argmax())


@dataclass(frozen=True)
class TaskExplainer(Explainer):
    """Explains what a fine-tuned model predicts."""

    folder: Path
    model: FineTuned
    task: Task[Any]
    tokenizer: Tokenizer
    max_length: int

    @property
    def embedding(self) -> nn.Embedding:  # type: ignore[override]
        """Word embeddings."""
        return self.model.encoder.word_embeddings

    def targets(self, row: WordRow, prediction: dict[str, Any]) -> list[Target]:
        """Return the log-odds of labels, tags or a passage, a score, or how far an answer is above none."""
        if isinstance(self.task, MultiLabel):
            chosen = prediction["labels"] or [max(prediction["probabilities"], key=prediction["probabilities"].get)]
            places = [self.task.labels.index(label) for label in chosen]
            return [
                targets.output_target(self.model, row, place, name=self.task.labels[place], unit="log-odds")
                for place in places
            ]
        if isinstance(self.task, Regress):
            return [targets.output_target(self.model, row, 0, name="score", unit="score")]
        if isinstance(self.task, Choose):
            return [targets.output_target(self.model, row, 0, name=prediction["choice"], unit="score")]
        if isinstance(self.task, Rank):
            return [targets.output_target(self.model, row, 0, name=row.texts[1], unit="log-odds")]
        if isinstance(self.task, Tag):
            return self._tags(row, prediction)
        if isinstance(self.task, Answer):
            return self._answer(row, prediction)
        label = self.task.labels.index(prediction["label"])
        return [targets.label_target(self.model, row, label, name=prediction["label"])]

    def row(self, texts: Sequence[str], prediction: dict[str, Any]) -> WordRow:
        """Return the row of a text or a pair, of a context and what was chosen, or of a query and its best passage.

        That of a tagger is cut into words as the task does.
        """
        if isinstance(self.task, Choose):
            contexts, choices, *_ = self.task.from_questions([tuple(texts)]).pairs()
            texts = contexts[prediction["place"]], choices[prediction["place"]]
        elif isinstance(self.task, Rank):
            texts = texts[0], prediction["passages"][0]["text"]
        if not isinstance(self.task, Tag):
            return super().row(texts, prediction)
        examples = self.task.from_questions([tuple(texts)])
        rows = self.task.encode(examples, TextEncoder(self.tokenizer, max_length=self.max_length)).rows
        return tagged_row(rows, examples, self.tokenizer)

    def _tags(self, row: WordRow, prediction: dict[str, Any]) -> list[Target]:
        """Return a target for each entity; of plain tags for each word."""
        places = [word.tokens[0] for word in row.words]
        with torch.no_grad():
            logits = targets.task_logits(self.model, row, row.ids[None].to(self.embedding.weight.device), places)[0]
        tags = logits.argmax(-1).tolist()
        if "tags" in prediction:
            found = [([number], one["tag"]) for number, one in enumerate(prediction["tags"])]
        else:
            found = [(words_in(row, one), one["type"]) for one in prediction["entities"]]
        return [
            targets.tag_target(
                self.model, row, [places[number] for number in inside], tags=[tags[number] for number in inside],
                name=f"{kind}: {row.texts[0][row.words[inside[0]].start : row.words[inside[-1]].end]}",
            )
            for inside, kind in found
        ]  # fmt: skip

    def _answer(self, row: WordRow, prediction: dict[str, Any]) -> list[Target]:
        """Return how far the answer, or where there is none the best span, is above no answer."""
        span = prediction if prediction["answer"] else next(iter(prediction["others"]), None)
        if span is None:
            return []
        inside = [row.words[number] for number in words_in(row, span, text=1)]
        name = row.texts[1][span["start"] : span["end"]]
        start, end = inside[0].tokens[0], inside[-1].tokens[-1]
        return [targets.answer_target(self.model, row, start, end=end, name=name)]


EXPLAINED = (Classify, MultiLabel, Regress, Tag, Answer, Choose, Rank)
"""The tasks whose predictions are explained."""


def open_explainer(folder: Path) -> Explainer:
    """Return what explains the predictions of the model in a folder, on the fastest device.

    Raises UsageError where it is of a kind whose predictions are not explained, and ModelError as `open_predictor`.
    """
    refused = UsageError(f"--explain is for models {KINDS}, and {folder} is none; leave it out")
    if is_onnx_folder(folder) or is_encoder_decoder(folder) or is_sentence_folder(folder):
        raise refused
    if not folder.is_dir() or head_type_of(folder) is None or is_next_sentence_folder(folder):
        model, report = read_pretrained(folder)
        if finds_replaced(model, report):
            raise refused
        return PretrainedExplainer(folder, model.to(pick_device()), load_tokenizer(folder), report)
    explainer = explainer_of(folder, read_fine_tuned(folder))
    if explainer is None:
        raise refused
    return explainer


def explainer_of(folder: Path, opened: FineTunedFolder) -> Explainer | None:
    """Return what explains the predictions of a fine-tuned model, on the fastest device; None where nothing does."""
    task = task_of(opened)
    if isinstance(task, ClassifyLong) or not isinstance(task, EXPLAINED):
        return None
    return TaskExplainer(folder, opened.model.to(pick_device()), task, load_tokenizer(folder), opened.max_length)
