"""Says what each word of a sentence is: part of an entity of some type, or a tag of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows, runs
from bertwright.errors import CorpusError, ModelError, UsageError
from bertwright.log import note
from bertwright.model.crf_decode import CRFDecoder
from bertwright.tasks.base import Task
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import UNLEARNED, EvalResult, Mistake, ResultTable, remark_on
from bertwright.tasks.head import HeadConfig, class_weights
from bertwright.tasks.metrics import log_shares
from bertwright.tasks.tagging.decode import DecodedTags, decode_tags
from bertwright.tasks.tagging.metrics import Entities, compare, entities_of, tag_set
from bertwright.tasks.tagging.pretokenize import PreTokenized, word_spans
from bertwright.tasks.tagging.reader import lacks_tags, read_tagged
from bertwright.tasks.tagging.schemes import Scheme, allowed_transitions, as_labels, detect_scheme, tag_labels
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.types import UNASKED, LabelledBatch, Loss, PartSums

if TYPE_CHECKING:
    from torch import Tensor

    from bertwright.model.crf import Crf
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import FineTuned, Problem


SHOWN = 12
"""Types of entities that are named."""


@dataclass(frozen=True)
class TaggedSentences:
    """W words of N sentences, and their tags.

    words [W] strings    counts [N] words of each sentence    targets [W] int64
    texts, spans  the running text of each sentence and the characters [W, 2] of each word in it, where they are known
    """

    path: Path
    words: list[str]
    counts: np.ndarray
    targets: np.ndarray
    texts: list[str] | None = None
    spans: np.ndarray | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.counts)

    def keys(self) -> list[str]:
        """Return the words of each sentence, a blank between them."""
        ends = np.cumsum(self.counts).tolist()
        begins = [0, *ends[:-1]]
        return [" ".join(self.words[begin:end]) for begin, end in zip(begins, ends, strict=True)]

    def groups(self) -> list[str]:
        """Return what sentences that stay on one side of a split have in common: equal words."""
        return self.keys()

    def classes(self) -> np.ndarray | None:
        """Return None: sentences are all of a kind."""
        return None

    def take(self, places: np.ndarray) -> Self:
        """Return the sentences at `places`, in that order."""
        counts = self.counts[places]
        at = runs(np.cumsum(self.counts)[places] - counts, counts)
        return replace(
            self,
            words=[self.words[place] for place in at.tolist()],
            counts=counts,
            targets=self.targets[at],
            texts=None if self.texts is None else [self.texts[place] for place in places.tolist()],
            spans=None if self.spans is None else self.spans[at],
        )


@dataclass(frozen=True)
class TagHead:
    """What stands above the logits of a tagger: weights [K] of the tags in the loss, or a CRF (the model's own).

    `known` are the steps of a CRF that learns no more.
    """

    weights: np.ndarray | None = None
    wants_crf: bool = False
    crf: Crf | None = None
    known: CRFDecoder | None = None

    @property
    def chain(self) -> CRFDecoder | None:
        """The steps to read tags by, as they are now; None without a CRF."""
        return self.known if self.crf is None else self.crf.decoder()


class Tag(Task[TaggedSentences]):
    """A tag a word, from the logits at its first piece (Devlin 2018, section 5.3): by softmax, or by a CRF."""

    name: ClassVar[str] = "tag"
    part: ClassVar[HeadType] = "token"
    metric: ClassVar[str] = "f1"
    metrics: ClassVar[tuple[str, ...]] = ("f1", "precision", "recall", "accuracy", "loss")
    problem: ClassVar[Problem] = "single_label_classification"
    pairs = False

    def __init__(
        self,
        labels: Sequence[str],
        columns: ColumnsConfig | None = None,
        *,
        head: TagHead | None = None,
        label_names: Sequence[str] | None = None,
    ) -> None:
        """Hold the tags, in the order of the head's outputs, and which columns of a file hold words and tags.

        `head` says what stands above the logits, `label_names` what numbers stand for as tags of a file.
        """
        self.labels, self.columns, self.head = tuple(labels), columns or ColumnsConfig(), head or TagHead()
        self.label_names = None if label_names is None else tuple(label_names)
        self.set = tag_set(labels)
        self.scheme: Scheme = "plain" if not self.set.types else "bioes" if self.set.closes else "iob"

    @classmethod
    def begin(cls, path: Path, columns: ColumnsConfig) -> tuple[Self, TaggedSentences]:
        """Return the task of a training file: its scheme and its types."""
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
        task = cls(labels, columns, label_names=found.label_names)
        note(f"{path}: {len(found.counts):,} sentences, {len(found.words):,} words; {scheme}; {task.described}")
        return task, TaggedSentences(path, found.words, found.counts, as_labels(found, task.labels))

    @property
    def described(self) -> str:
        """What the tags are, in a few words: how many there are, or of which types of entities."""
        if self.scheme == "plain":
            return f"{len(self.labels)} tags"
        types = self.set.shown
        named = ", ".join(types[:SHOWN]) + (", ..." if len(types) > SHOWN else "")
        return f"{len(types)} type{'s' * (len(types) > 1)} of entities ({named})"

    @classmethod
    def from_labels(cls, labels: Sequence[str]) -> Self:
        """Return the task of a trained model."""
        return cls(labels)

    def _with(self, *, columns: ColumnsConfig | None = None, head: TagHead | None = None) -> Self:
        """Return the task with other columns, or another head."""
        return type(self)(self.labels, columns or self.columns, head=head or self.head, label_names=self.label_names)

    def with_columns(self, path: Path, columns: ColumnsConfig) -> Self:
        """Return the task with the columns given."""
        return self._with(columns=columns)

    def with_saved_settings(self, own: Mapping[str, Any]) -> Self:
        """Return the task with the names of numbers that a model keeps; raises ModelError where they are none."""
        names = own.get("label_names", self.label_names)
        if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
            raise ModelError("label_names in the config.json of this model is no list of names; fine-tune it again")
        return type(self)(self.labels, self.columns, head=self.head, label_names=names)

    @property
    def own(self) -> dict[str, Any]:
        """The names of numbers, which the model's folder keeps."""
        return {} if self.label_names is None else {"label_names": list(self.label_names)}

    def with_head(self, head: HeadConfig, examples: TaggedSentences) -> Self:
        """Return the task with the class weights or the CRF asked for."""
        head.refuse("multi_label", "positive", task=self.name)
        if head.crf:
            head.refuse("class_weights", task="tag with a CRF")
        weights = None
        if head.class_weights is not None:
            weights = class_weights(head.class_weights, examples.targets, self.labels)
        return self._with(head=TagHead(weights, wants_crf=head.crf))

    def new_crf(self) -> Crf | None:
        """Return a CRF over the tags, if there is to be one; steps their scheme forbids never happen."""
        return crf_of(self.labels) if self.head.wants_crf else None

    def with_crf(self, model: FineTuned) -> Self:
        """Return the task with the transitions of a model that has a CRF."""
        return self._with(head=replace(self.head, crf=model.crf))

    def reading_by(self, chain: CRFDecoder | None) -> Self:
        """Return the task with the steps of an exported model that has a CRF."""
        return self._with(head=replace(self.head, known=chain))

    def read(self, path: Path) -> TaggedSentences:
        """Return the examples of another file."""
        found = read_tagged(path, self.columns, label_names=self.label_names, known=self.labels)
        return TaggedSentences(path, found.words, found.counts, as_labels(found, self.labels))

    def unlabelled(self, path: Path) -> UnlabelledFile | None:
        """Return a file of words without tags as what is to be predicted; None where it has some."""
        if not lacks_tags(path, self.columns):
            return None
        return UnlabelledFile(path, self.columns.text)

    def ask(self, questions: Sequence[tuple[str, ...]]) -> TaggedSentences:
        """Return running texts cut into words, or sentences of given ones; raises UsageError where one is a pair."""
        if any(len(question) > 1 and not isinstance(question, PreTokenized) for question in questions):
            raise UsageError("this model tags the words of single texts; it has no use for pairs")
        texts = [" ".join(question) for question in questions]
        found = [_spans_of(question) for question in questions]
        words = [text[begin:end] for text, spans in zip(texts, found, strict=True) for begin, end in spans]
        counts = np.array([len(spans) for spans in found], dtype=np.int64)
        spans = np.array([span for spans in found for span in spans], dtype=np.int64).reshape(-1, 2)
        return TaggedSentences(Path("questions"), words, counts, np.zeros(len(words), dtype=np.int64), texts, spans)

    def encode(self, examples: TaggedSentences, encoder: TextEncoder) -> LabelledRows:
        """Return a row for each sentence, or several where it is too long for one."""
        return encoder.word_rows(examples.words, examples.counts, examples.targets)

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy of the words, in nats; with a CRF, the surprise of the sentences a word."""
        if self.head.crf is None:
            from bertwright.tasks.class_loss import class_loss

            return class_loss(scores, example.targets, name=self.name, weights=self.head.weights)
        here = example.targets != UNASKED
        nats = self.head.crf.negative_log_likelihood(scores.float(), example.targets, here).sum()
        count = here.sum()
        return Loss(nats / count, {self.name: PartSums(nats.detach(), count)}, count)

    def read_tags(self, logits: np.ndarray, examples: TaggedSentences) -> DecodedTags:
        """Return the tags that logits [W, K] stand for, all probabilities, and the surprise of the true tags."""
        chain = self.head.chain
        if chain is not None:
            return decode_tags(chain, logits, examples.counts, examples.targets)
        logs = log_shares(logits)
        nats = -logs[np.arange(len(logs)), examples.targets].sum()
        return DecodedTags(logits.argmax(-1), logs, float(nats))

    def judge(self, logits: np.ndarray, examples: TaggedSentences, *, mistakes: int = 0) -> EvalResult:
        """Return F1, precision and recall of entities (of single words, for plain tags), and figures by type."""
        read = self.read_tags(logits, examples)
        truth, said, logs = examples.targets, read.tags, read.log_shares[np.arange(len(logits)), examples.targets]
        figures = {"accuracy": float((said == truth).mean()), "loss": read.nats / len(truth)}
        if self.scheme == "plain":
            figures = {
                "f1": figures["accuracy"],
                "precision": figures["accuracy"],
                "recall": figures["accuracy"],
            } | figures
            grid, warning = None, remark_on(self.labels, truth, said)
        else:
            types = self.set.shown
            true, given = (entities_of(tags, examples.counts, self.set) for tags in (truth, said))
            whole, *each = compare(true, given, words=len(truth), types=len(types))
            figures = {"f1": whole.f1, "precision": whole.precision, "recall": whole.recall} | figures
            rows = [
                [kind, f"{f.precision:.4f}", f"{f.recall:.4f}", f"{f.f1:.4f}", f"{f.true:,}", f"{f.said:,}"]
                for kind, f in zip((*types, "all"), (*each, whole), strict=True)
            ]
            grid = ResultTable("entities by type", ["type", "precision", "recall", "f1", "true", "said"], rows)
            warning = f"no entity is found: {UNLEARNED}" if whole.true and not whole.said else ""
        return EvalResult(figures, grid, self._worst(truth, said, logs, examples, most=mistakes), warning)

    def _worst(
        self, truth: np.ndarray, said: np.ndarray, logs: np.ndarray, examples: TaggedSentences, *, most: int
    ) -> list[Mistake]:
        """Return the sentences whose wrong words were thought least likely, all together."""
        ends = np.cumsum(examples.counts)
        begins = ends - examples.counts
        error = np.add.reduceat(np.where(said != truth, -logs, 0.0), begins)
        worst = [place for place in np.argsort(-error, kind="stable")[:most].tolist() if error[place] > 0]
        return [
            Mistake(
                text=" ".join(examples.words[begins[place] : ends[place]]),
                truth=self._told(truth[begins[place] : ends[place]], examples.words[begins[place] : ends[place]]),
                said=self._told(said[begins[place] : ends[place]], examples.words[begins[place] : ends[place]]),
                error=float(error[place]),
            )
            for place in worst
        ]

    def _told(self, tags: np.ndarray, words: list[str]) -> str:
        """Return the entities of one sentence in words, or its tags."""
        if self.scheme == "plain":
            return " ".join(self.labels[tag] for tag in tags)
        found = entities_of(tags, np.array([len(tags)]), self.set)
        places = zip(found.first.tolist(), found.last.tolist(), found.kind.tolist(), strict=True)
        told = [f"{self.set.shown[kind]}: {' '.join(words[first : last + 1])}" for first, last, kind in places]
        return "; ".join(told) or "nothing"

    def answers(self, logits: np.ndarray, examples: TaggedSentences) -> list[dict[str, Any]]:
        """Return for each text its entities, with type, text, characters from and to, and the mean probability.

        For plain tags, its words with their tags and probabilities instead.
        """
        assert examples.texts is not None
        assert examples.spans is not None
        read = self.read_tags(logits, examples)
        said = read.tags
        shares = np.exp(read.log_shares[np.arange(len(said)), said])
        if self.scheme == "plain":
            return self._tagged_words(said, shares, examples)
        found = entities_of(said, examples.counts, self.set)
        answers: list[dict[str, Any]] = [{"text": text, "entities": []} for text in examples.texts]
        owners = np.searchsorted(np.cumsum(examples.counts), found.first, side="right")
        for place, owner in enumerate(owners.tolist()):
            if not examples.texts[owner].strip():
                continue  # an empty text has one row, but no words
            answers[owner]["entities"].append(self._entity(found, place, shares, examples, owner))
        return answers

    def _entity(
        self, found: Entities, place: int, shares: np.ndarray, examples: TaggedSentences, owner: int
    ) -> dict[str, Any]:
        assert examples.texts is not None
        assert examples.spans is not None
        first, last = int(found.first[place]), int(found.last[place])
        begin, end = int(examples.spans[first, 0]), int(examples.spans[last, 1])
        return {
            "type": self.set.shown[found.kind[place]],
            "text": examples.texts[owner][begin:end],
            "start": begin,
            "end": end,
            "probability": float(shares[first : last + 1].mean()),
        }

    def _tagged_words(self, said: np.ndarray, shares: np.ndarray, examples: TaggedSentences) -> list[dict[str, Any]]:
        assert examples.texts is not None
        tagged = [
            {"word": word, "tag": self.labels[tag], "probability": share}
            for word, tag, share in zip(examples.words, said.tolist(), shares.tolist(), strict=True)
        ]
        ends = np.cumsum(examples.counts).tolist()
        begins = [0, *ends[:-1]]
        return [
            {"text": text, "tags": tagged[begin:end] if text.strip() else []}
            for text, begin, end in zip(examples.texts, begins, ends, strict=True)
        ]


def _spans_of(question: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return the characters [begin, end) of each word: those of a running text, or given ones a blank apart."""
    if not isinstance(question, PreTokenized):
        return word_spans(question[0])
    ends = list(accumulate(len(word) + 1 for word in question))
    return [(end - 1 - len(word), end - 1) for word, end in zip(question, ends, strict=True)]


def crf_of(labels: Sequence[str]) -> Crf:
    """Return a new CRF over tags of these names; steps their scheme forbids never happen."""
    from bertwright.model.crf import Crf

    return Crf(allowed_transitions(labels))
