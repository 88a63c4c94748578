"""Says which class a text is of that is longer than a row: each window of it is scored, and the scores become one.

A window has the logits of the classes. Those of the text are the largest of each class ("max"), their mean, or a mean
in which each window counts as much as one more output of the head says ("attention"). The head is linear, so that this
is a head over the attention-weighted mean of the vectors of windows (Yang et al., 2016, section 2.2, with windows in
the place of sentences).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.errors import CorpusError, ModelError
from bertwright.log import note
from bertwright.tasks.base import TrainFile
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import EncodedExamples
from bertwright.tasks.head import WINDOW_OVERLAP, WINDOWS, WindowPooling, class_loss
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.types import LabelledBatch, Loss

if TYPE_CHECKING:
    from torch import Tensor

ATTENTION = "attention"
"""The name of the output that says how much a window counts, after those of the classes."""
KEPT, OVERLAP = "windows", "window_overlap"
"""Under these names a folder keeps how the scores of windows become one, and how far windows overlap."""


@dataclass(frozen=True)
class LongTexts(Texts):
    """Texts, and how many windows each is cut into, int64 [N]; None before they are encoded."""

    windows: np.ndarray | None = None

    def take(self, places: np.ndarray) -> Self:
        """Return the texts at `places`, in that order."""
        found = super().take(places)
        return found if self.windows is None else replace(found, windows=self.windows[places])


@dataclass(frozen=True, eq=False)
class ClassifyLong(Classify):
    """One class a text, by the scores of its windows.

    pooling  how these become one
    overlap  tokens that two windows share
    """

    sums_over_rows: ClassVar[bool] = False
    pooling: WindowPooling = "max"
    overlap: int = WINDOW_OVERLAP

    @classmethod
    def from_train_file(cls, file: TrainFile) -> tuple[Self, dict[str, Texts]]:
        """Return the task of a training table."""
        task, splits = super().from_train_file(file)
        if task.pairs:
            raise CorpusError(
                f"{file.path} was read as pairs, and windows are of single texts; name --text-column alone"
            )
        pooling = file.head.windows
        assert pooling is not None
        return replace(task, pooling=pooling, overlap=file.head.window_overlap), splits

    @classmethod
    def from_labels(cls, labels: Sequence[str], extra_config: Mapping[str, Any] | None = None) -> Self:
        """Return the task of a trained model; raises ModelError where its folder keeps no pooling that is known."""
        kept = extra_config or {}
        pooling, overlap = kept.get(KEPT), kept.get(OVERLAP, WINDOW_OVERLAP)
        if pooling not in WINDOWS or not isinstance(overlap, int) or overlap < 0:
            raise ModelError(f"{KEPT} in the config.json of this model should be one of {', '.join(WINDOWS)}; fix it")
        names = labels[:-1] if pooling == "attention" else labels
        return replace(super().from_labels(names, kept), pooling=pooling, overlap=overlap)

    @property
    def extra_config(self) -> dict[str, Any]:
        """What a folder keeps: also how windows are cut and pooled."""
        return super().extra_config | {KEPT: self.pooling, OVERLAP: self.overlap}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The classes, and how much a window counts where that is learned."""
        return (*self.labels, ATTENTION) if self.pooling == "attention" else self.labels

    @property
    def divisors(self) -> np.ndarray:
        """The temperature for each class; how much a window counts is as it is."""
        return np.append(super().divisors, 1.0) if self.pooling == "attention" else super().divisors

    def encode(self, examples: Texts, encoder: TextEncoder) -> EncodedExamples[Texts, LabelledRows]:
        """Return a row for each window; those of a text stay together."""
        rows = encoder.windows_of(examples.first, overlap=self.overlap)
        assert rows.together is not None
        counts = rows.together
        targets = np.repeat(examples.targets, counts) + len(self.labels)
        targets[np.cumsum(counts) - counts] -= len(self.labels)
        several = int(np.count_nonzero(counts > 1))
        if several:
            most = f"{counts.max():,} at most"
            note(f"{several:,} of {len(counts):,} texts have several windows of {encoder.max_length} tokens, {most}")
        held = {name: getattr(examples, name) for name in ("path", "first", "second", "targets")}
        return EncodedExamples(LongTexts(**held, windows=counts), replace(rows, targets=targets))

    def loss(self, scores: Tensor, example: LabelledBatch) -> Loss:
        """Return the mean cross-entropy of texts, in nats, from logits [B, 1, outputs] of all their windows.

        The target of a window is its class, plus the number of classes where it is not the first of its text.
        """
        targets = example.targets.flatten()
        is_first = targets < len(self.labels)
        pooled = pool_windows(scores.float().flatten(0, 1), is_first.cumsum(0) - 1, self.pooling)
        loss = class_loss(pooled[:, None], targets[is_first][:, None], name=self.name, weights=self.weights)
        return replace(loss, mass=None)

    def pooled(self, logits: np.ndarray, examples: Texts) -> np.ndarray:
        """Return the logits [N, K] of texts from those [R, outputs] of their windows."""
        assert isinstance(examples, LongTexts)
        assert examples.windows is not None
        counts, values = examples.windows, logits.astype(np.float64)
        begins = np.cumsum(counts) - counts
        if self.pooling == "max":
            return np.asarray(np.maximum.reduceat(values, begins))
        if self.pooling == "mean":
            return np.asarray(np.add.reduceat(values, begins) / counts[:, None])
        most = np.repeat(np.maximum.reduceat(values[:, -1], begins), counts)
        shares = np.exp(values[:, -1] - most)
        shares /= np.repeat(np.add.reduceat(shares, begins), counts)
        return np.asarray(np.add.reduceat(shares[:, None] * values[:, :-1], begins))

    def tuned(self, logits: np.ndarray, examples: Texts) -> Self:
        """Return the task with the temperature that is best on dev."""
        return super().tuned(self.pooled(logits, examples), examples)

    def evaluate(self, logits: np.ndarray, examples: Texts, *, mistakes: int = 0) -> EvalResult:
        """Return the figures of texts."""
        return super().evaluate(self.pooled(logits, examples), examples, mistakes=mistakes)

    def resampled(self, logits: np.ndarray, examples: Texts) -> Resampled:
        """Return these on any choice of texts."""
        return super().resampled(self.pooled(logits, examples), examples)

    def suspects(self, logits: np.ndarray, examples: Texts) -> list[tuple[int, dict[str, Any]]]:
        """Return the texts whose label is doubtful."""
        return super().suspects(self.pooled(logits, examples), examples)

    def predictions(self, logits: np.ndarray, examples: Texts) -> list[dict[str, Any]]:
        """Return the most probable label of each text."""
        return super().predictions(self.pooled(logits, examples), examples)


def pool_windows(scores: Tensor, text: Tensor, pooling: WindowPooling) -> Tensor:
    """Return logits [N, K] of texts from scores [R, outputs] of windows, `text` [R] being the text of each, from 0."""
    texts = int(text[-1]) + 1
    if pooling == "max":
        at = text[:, None].expand_as(scores)
        return scores.new_full((texts, scores.shape[1]), -np.inf).scatter_reduce(0, at, scores, "amax")
    if pooling == "mean":
        counts = scores.new_zeros(texts).index_add(0, text, scores.new_ones(len(text)))
        return scores.new_zeros(texts, scores.shape[1]).index_add(0, text, scores) / counts[:, None]
    weight, logits = scores[:, -1], scores[:, :-1]
    most = weight.new_full((texts,), -np.inf).scatter_reduce(0, text, weight.detach(), "amax")
    shares = (weight - most[text]).exp()
    sums = shares.new_zeros(texts).index_add(0, text, shares)
    return logits.new_zeros(texts, logits.shape[1]).index_add(0, text, (shares / sums[text])[:, None] * logits)
