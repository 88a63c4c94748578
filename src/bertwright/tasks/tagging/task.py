"""Says what each word of a sentence is: part of an entity of some type, or a tag of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.config import OneOf, Range
from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.log import ResultTable, note
from bertwright.model.crf_decode import CRFDecoder
from bertwright.tasks.base import Task, TrainFile
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import SAME_PREDICTION, EvalResult, Mistake, warning_of, worst_first
from bertwright.tasks.examples import EncodedExamples, split_dev
from bertwright.tasks.head import class_loss, class_weights, weights_on
from bertwright.tasks.metrics import log_probabilities
from bertwright.tasks.tagging.decode import DecodedTags, decode_tags
from bertwright.tasks.tagging.metrics import (
    Entities,
    Found,
    TagSet,
    compare,
    counts_by_sentence,
    entities_of,
    tag_set,
)
from bertwright.tasks.tagging.reader import TaggedSentences, lacks_tags, read_tagged, sentences_of_questions
from bertwright.tasks.tagging.schemes import Scheme, allowed_transitions, as_labels, detect_scheme, tag_labels
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import UNASKED, LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.crf import Crf
    from bertwright.model.encoder import HeadType

SHOWN = 12
"""Types of entities that are named."""


@dataclass(frozen=True, eq=False)
class Tag(Task[TaggedSentences]):
    """A tag a word, from the logits at its first piece (Devlin 2018, section 5.3): by softmax, or by a CRF.

    labels       the tags, in the order of the head's outputs
    columns      which columns of a file hold words and tags
    label_names  what numbers stand for as tags of a file
    weights      how much each tag counts in the loss, float32 [K]; all alike where there are none
    wants_crf    whether a new model is to have a CRF
    crf          that of a model; None where it has none
    """

    name: ClassVar[str] = "tag"
    head_type: ClassVar[HeadType] = "token"
    metric: ClassVar[str] = "f1"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy", "loss")
    space: ClassVar[Mapping[str, Range]] = {"head.crf": OneOf((False, True))}
    pairs = False
    labels: tuple[str, ...]
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    label_names: tuple[str, ...] | None = None
    weights: np.ndarray | None = None
    wants_crf: bool = False
    crf: Crf | CRFDecoder | None = None

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, TaggedSentences]]:
        """Return the task of a training file: its scheme and its types."""
        path, columns, head = file.path, file.columns, file.head
        head.refuse("multi_label", "positive", "windows", task=cls.name)
        if columns.pair is not None:
            raise UsageError("--pair-column has no place in tagging; give a file of words and their tags")
        found = read_tagged(path, columns)
        scheme = detect_scheme(found)
        labels = tag_labels(found, scheme)
        if len(labels) < 2:
            raise CorpusError(
                f"every word of {path} has the tag {labels[0]!r}; give a file with two tags or more, or "
                "name another column with --label-column"
            )
        if columns.label_names and found.label_names != columns.label_names:
            raise UsageError(f"the tags of {path} are names, not numbers; leave --label-names out")
        examples = TaggedSentences(path, found.words, found.counts, as_labels(found, labels))
        note(
            f"{path}: {len(found.counts):,} sentences, {len(found.words):,} words; {scheme}; "
            f"{cls(tuple(labels)).described}"
        )
        splits = split_dev(examples, file.dev_fraction, labels=labels)
        wanted = head.class_weights
        weights = None if wanted is None else class_weights(wanted, splits["train"].targets, labels)
        return cls(tuple(labels), columns, found.label_names, weights, head.crf), splits

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model; raises ModelError where the names of numbers that it keeps are none."""
        names = (extra_config or {}).get("label_names")
        if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
            raise ModelError("label_names in the config.json of this model is no list of names; fine-tune it again")
        return cls(tuple(labels), label_names=None if names is None else tuple(names))

    @property
    def extra_config(self) -> dict[str, Any]:
        """The names of numbers, which the model's folder keeps."""
        return {} if self.label_names is None else {"label_names": list(self.label_names)}

    @cached_property
    def tag_set(self) -> TagSet:
        """The letter and type of each tag."""
        return tag_set(self.labels)

    @property
    def scheme(self) -> Scheme:
        """How the model marks entities."""
        return "plain" if not self.tag_set.types else "bioes" if self.tag_set.closes else "iob"

    @property
    def described(self) -> str:
        """What the tags are, in a few words: how many there are, or of which types of entities."""
        if self.scheme == "plain":
            return f"{len(self.labels)} tags"
        types = self.tag_set.shown
        named = ", ".join(types[:SHOWN]) + (", ..." if len(types) > SHOWN else "")
        return f"{len(types)} type{'s' * (len(types) > 1)} of entities ({named})"

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns given."""
        return replace(self, columns=columns)

    def new_crf(self) -> Crf | None:
        """Return a CRF over the tags, if there is to be one; steps their scheme forbids never happen."""
        return crf_of(self.labels) if self.wants_crf else None

    def with_crf(self, crf: Crf | CRFDecoder | None) -> Self:
        """Return the task with the CRF of a model: one that still learns, or its decoder alone."""
        return replace(self, crf=crf)

    def read(self, path: Path) -> TaggedSentences:
        """Return the examples of another file."""
        found = read_tagged(path, self.columns, label_names=self.label_names, known=self.labels)
        return TaggedSentences(path, found.words, found.counts, as_labels(found, self.labels))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a file of words without tags as what is to be predicted; None where it has some."""
        return UnlabelledFile(path, self.columns.text) if lacks_tags(path, self.columns) else None

    def from_questions(self, questions: Sequence[tuple[str, ...]]) -> TaggedSentences:
        """Return running texts cut into words, or sentences of given ones."""
        return sentences_of_questions(questions)

    def encode(self, examples: TaggedSentences, encoder: TextEncoder) -> EncodedExamples[TaggedSentences, LabelledRows]:
        """Return a row for each sentence, or several where it is too long for one."""
        return EncodedExamples(examples, encoder.word_rows(examples.words, examples.counts, examples.targets))

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy of the words, in nats; with a CRF, the negative log-likelihood a word.

        With a CRF and weights, each word has that of its tag times how improbable it is after the one before.
        """
        if self.crf is None:
            return class_loss(scores, example.targets, name=self.name, weights=self.weights)
        assert not isinstance(self.crf, CRFDecoder)
        has_word = example.targets != UNASKED
        count = has_word.sum()
        if self.weights is None:
            nats = self.crf.negative_log_likelihood(scores.float(), example.targets, has_word).sum()
            return Loss(nats / count.clamp(min=1), {self.name: PartSums(nats.detach(), count)}, count)
        of_tag = weights_on(scores.device, self.weights)
        weights = has_word * of_tag[example.targets.clamp(min=0)]
        nats = (self.crf.nats_of_words(scores.float(), example.targets, has_word) * weights).sum()
        total = nats / weights.sum().clamp(min=1e-30)
        return Loss(total, {self.name: PartSums(total.detach() * count, count)}, weights.sum())

    def decode(self, logits: np.ndarray, examples: TaggedSentences) -> DecodedTags:
        """Return the tags that logits [W, K] stand for, and how likely all tags, and those of the examples, are."""
        if self.crf is not None:
            decoder = self.crf if isinstance(self.crf, CRFDecoder) else self.crf.decoder()
            return decode_tags(decoder, logits, examples.counts, examples.targets)
        logs = log_probabilities(logits)
        nats = -logs[np.arange(len(logs)), examples.targets].sum()
        return DecodedTags(logits.argmax(-1), logs, float(nats))

    def evaluate(self, logits: np.ndarray, examples: TaggedSentences, *, mistakes: int = 0) -> EvalResult:
        """Return F1, precision and recall of entities (of single words, for plain tags), and figures by type."""
        decoded = self.decode(logits, examples)
        labels, predictions = examples.targets, decoded.tags
        accuracy, loss = float((predictions == labels).mean()), decoded.nats / len(labels)
        if self.scheme == "plain":
            f1 = precision = recall = accuracy
            table, warning = None, warning_of(self.labels, labels, predictions)
        else:
            types = self.tag_set.shown
            found = [entities_of(tags, examples.counts, self.tag_set) for tags in (labels, predictions)]
            whole, *each = compare(*found, words=len(labels), types=len(types))
            f1, precision, recall = whole.f1, whole.precision, whole.recall
            rows = [
                [kind, f"{n.precision:.4f}", f"{n.recall:.4f}", f"{n.f1:.4f}", f"{n.labels:,}", f"{n.predictions:,}"]
                for kind, n in zip((*types, "all"), (*each, whole), strict=True)
            ]
            header = ["type", "precision", "recall", "f1", "labels", "predictions"]
            table = ResultTable("entities by type", header, rows)
            warning = f"no entity is found: {SAME_PREDICTION}" if whole.labels and not whole.predictions else ""
        figures = {"f1": f1, "precision": precision, "recall": recall, "accuracy": accuracy, "loss": loss}
        of_labels = decoded.log_probabilities[np.arange(len(logits)), labels]
        return EvalResult(figures, table, self._worst(predictions, of_labels, examples, most=mistakes), warning)

    def resampled(self, logits: np.ndarray, examples: TaggedSentences) -> Resampled:
        """Return what `evaluate` gives, but the loss, on any choice of sentences."""
        labels, predictions = examples.targets, self.decode(logits, examples).tags
        begins = np.cumsum(examples.counts) - examples.counts
        words = np.add.reduceat((labels == predictions).astype(np.int64), begins)
        found = [entities_of(tags, examples.counts, self.tag_set) for tags in (labels, predictions)]
        entities = counts_by_sentence(found[0], found[1], examples.counts, types=len(self.tag_set.types))

        def figures(places: np.ndarray) -> dict[str, float]:
            accuracy = float(words[places].sum() / examples.counts[places].sum())
            whole = Found(*(int(count[places].sum()) for count in entities))
            of_entities = {"f1": whole.f1, "precision": whole.precision, "recall": whole.recall}
            plain = dict.fromkeys(of_entities, accuracy)
            return {**(plain if self.scheme == "plain" else of_entities), "accuracy": accuracy}

        return Resampled(len(examples), figures)

    def _worst(
        self, predictions: np.ndarray, of_labels: np.ndarray, examples: TaggedSentences, *, most: int
    ) -> list[Mistake]:
        """Return the sentences whose wrong words were thought least likely, all together."""
        begins = np.cumsum(examples.counts) - examples.counts
        errors = np.add.reduceat(np.where(predictions != examples.targets, -of_labels, 0.0), begins)
        every, mistakes = examples.bounds(), []
        for place in worst_first(errors, most):
            here = slice(*every[place])
            words = examples.words[here]
            label, prediction = (self._shown(tags[here], words) for tags in (examples.targets, predictions))
            mistakes.append(Mistake(" ".join(words), label, prediction, float(errors[place])))
        return mistakes

    def _shown(self, tags: np.ndarray, words: list[str]) -> str:
        """Return the entities of one sentence in words, or its tags."""
        if self.scheme == "plain":
            return " ".join(self.labels[tag] for tag in tags)
        found = entities_of(tags, np.array([len(tags)]), self.tag_set)
        places = zip(found.first.tolist(), found.last.tolist(), found.kind.tolist(), strict=True)
        shown = [f"{self.tag_set.shown[kind]}: {' '.join(words[first : last + 1])}" for first, last, kind in places]
        return "; ".join(shown) or "nothing"

    def predictions(self, logits: np.ndarray, examples: TaggedSentences) -> list[dict[str, Any]]:
        """Return for each text its entities, with type, text, characters from and to, and the mean probability.

        For plain tags, its words with their tags and probabilities instead.
        """
        assert examples.texts is not None
        decoded = self.decode(logits, examples)
        probabilities = np.exp(decoded.log_probabilities[np.arange(len(decoded.tags)), decoded.tags])
        if self.scheme == "plain":
            return self._tagged_words(decoded.tags, probabilities, examples.texts, examples)
        found = entities_of(decoded.tags, examples.counts, self.tag_set)
        answers: list[dict[str, Any]] = [{"text": text, "entities": []} for text in examples.texts]
        owners = np.searchsorted(np.cumsum(examples.counts), found.first, side="right")
        for place, owner in enumerate(owners.tolist()):
            text = examples.texts[owner]
            if text.strip():  # an empty text has one row, but no words
                answers[owner]["entities"].append(self._entity(found, place, probabilities, examples, text))
        return answers

    def _entity(
        self, found: Entities, place: int, probabilities: np.ndarray, examples: TaggedSentences, text: str
    ) -> dict[str, Any]:
        assert examples.spans is not None
        first, last = int(found.first[place]), int(found.last[place])
        begin, end = int(examples.spans[first, 0]), int(examples.spans[last, 1])
        return {
            "type": self.tag_set.shown[found.kind[place]],
            "text": text[begin:end],
            "start": begin,
            "end": end,
            "probability": float(probabilities[first : last + 1].mean()),
        }

    def _tagged_words(
        self, tags: np.ndarray, probabilities: np.ndarray, texts: list[str], examples: TaggedSentences
    ) -> list[dict[str, Any]]:
        tagged = [
            {"word": word, "tag": self.labels[tag], "probability": probability}
            for word, tag, probability in zip(examples.words, tags.tolist(), probabilities.tolist(), strict=True)
        ]
        return [
            {"text": text, "tags": tagged[begin:end] if text.strip() else []}
            for text, (begin, end) in zip(texts, examples.bounds(), strict=True)
        ]


def crf_of(labels: Sequence[str]) -> Crf:
    """Return a new CRF over tags of these names; steps their scheme forbids never happen."""
    from bertwright.model.crf import Crf

    return Crf(allowed_transitions(labels))
