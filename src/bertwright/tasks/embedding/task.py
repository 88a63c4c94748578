"""Teaches an encoder to give texts that are alike vectors of a small angle: contrastive training, and its evaluation.

    file -> Sentences -> SentenceRows -> vectors -> loss, EvalResult
         read_sentences   encode       (no head)

It is none of the tasks of base.py: there is no head and no label, an example is several rows, and a dev file may
hold something else than the training file, such as scores where that has plain text.

pairs   Each first text is to find its second one among all of the batch, and third texts, where there are any, are
        hard negatives: cross-entropy of cosines / temperature ("InfoNCE", van den Oord et al., 2018; "multiple
        negatives ranking", Henderson et al., 2017).
texts   The same, where the second text is the first once more, through other dropout (SimCSE, Gao et al., 2021).
scores  The squared error of the cosine against the score, laid out from 0 to 1 (Reimers and Gurevych, 2019).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from bertwright.config import Section
from bertwright.data.labelled.sentence_rows import SentenceRows
from bertwright.log import ResultTable
from bertwright.model.sentence_encoder import Pooling
from bertwright.tasks.base import FinetuneTask
from bertwright.tasks.bootstrap import Resampled
from bertwright.tasks.embedding.metrics import Ranks, cosines, rank_texts, retrieval_figures, score_figures
from bertwright.tasks.embedding.reader import Kind, Sentences, scaled
from bertwright.tasks.eval_result import EvalResult, Mistake, worst_first
from bertwright.tasks.examples import EncodedExamples
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.types import Loss, PartSums, SentenceBatch

FIGURES: dict[Kind, tuple[str, ...]] = {"scores": ("spearman", "pearson"), "pairs": ("mrr_at_10", "accuracy")}
"""The figures of a file; the first chooses the checkpoint."""


class EmbedConfig(Section):
    """How sentence vectors are made and trained."""

    objective: Literal["auto", "pairs", "texts", "scores"] = "auto"
    """pairs: each text finds the one it belongs with. texts: each finds itself through other dropout. scores: cosines
    come near the scores. auto finds it by the columns of the training file."""
    pooling: Pooling | None = None
    """mean, cls or max; as the folder of a sentence-transformers model says where not given, mean elsewhere."""
    normalize: bool | None = None
    """Vectors of unit length, so that a product is a cosine; as the folder says where not given, true elsewhere."""
    temperature: float = Field(default=0.05, gt=0)
    """What cosines are divided by (a scale of 20)."""
    symmetric: bool = False
    """The second texts of pairs look for the first ones as well."""
    dimensions: tuple[int, ...] = ()
    """Numbers of units, such as 128 and 64: the first so many of a vector are trained to do as well as all of it."""
    hard_negatives: int = Field(default=0, ge=0)
    """pairs: so many texts near each first one, by the vectors of the model as it is, are mined as its negatives."""
    margin: float = Field(default=0.05, ge=0, lt=1)
    """Mined texts are this fraction farther from the first text, in cosine, than the text it is paired with."""
    negative_column: str | None = None
    """Column of a text that is unlike the first; found by its name (negative) where not given."""


@dataclass(frozen=True)
class Embed(FinetuneTask):
    """The loss of the vectors of a batch, and the figures of models.

    kind        what the training file holds
    metrics     the figures of the dev file, which may hold something else
    dimensions  numbers of units that have the loss too, fewer than all
    """

    name: ClassVar[str] = "embed"
    sums_over_rows: ClassVar[bool] = False
    labels = ()
    kind: Kind
    metrics: tuple[str, ...]
    temperature: float
    symmetric: bool
    dimensions: tuple[int, ...] = ()

    @property
    def metric(self) -> str:
        """The figure the best checkpoint is chosen by, where no other is asked for."""
        return self.metrics[0]

    def encode(self, examples: Sentences, encoder: TextEncoder) -> EncodedExamples[Sentences, SentenceRows]:
        """Return the rows of examples; scores are laid out from 0 to 1, a text alone is paired with itself."""
        rows = encoder.rows(examples.texts, None, np.zeros(len(examples.texts), dtype=np.int64))
        members = np.repeat(examples.members, 2, axis=1) if examples.kind == "texts" else examples.members
        scores = None if examples.scores is None else scaled(examples.scores)
        return EncodedExamples(examples, SentenceRows(rows, members, scores))

    def loss(self, vectors: Tensor, batch: SentenceBatch) -> Loss:
        """Return the loss of the vectors [K B, H] of a batch.

        With `dimensions` it is the sum of those of all units and of each first so many (Kusupati et al., 2022,
        "Matryoshka Representation Learning"); its part is that of all units.
        """
        whole = self._loss(vectors, batch)
        others = [self._loss(vectors[:, :units], batch).total for units in self.dimensions]
        return Loss(sum(others, start=whole.total), whole.parts)

    def _loss(self, vectors: Tensor, batch: SentenceBatch) -> Loss:
        """Return the loss of vectors [K B, H] that may be the first units of longer ones."""
        columns = functional.normalize(vectors.float(), dim=-1).view(*batch.texts.shape, -1)
        if self.kind != "scores":
            return contrast_loss(columns, batch.texts, temperature=self.temperature, symmetric=self.symmetric)
        assert batch.scores is not None
        errors = ((columns[0] * columns[1]).sum(-1) - batch.scores).square()
        return Loss(errors.mean(), {"embed": PartSums(errors.detach().sum(), _count(errors))})


def contrast_loss(vectors: Tensor, texts: Tensor, *, temperature: float, symmetric: bool) -> Loss:
    """Return the mean cross-entropy (nats) of unit vectors [K, B, H]: each of the first B finds the second of its own.

    `texts` [K, B] say which text each vector is of: what is the same text as the first or the second of an example, or
    is paired with the same first text, is no negative of it.
    """
    first, second = texts[0], texts[1]
    others = texts[1:].flatten()
    known = _same(first, others) | _same(second, others)
    known[:, : len(first)] |= _same(first, first)
    losses, right = _find(vectors[0], vectors[1:].flatten(0, 1), known, temperature)
    if symmetric:
        back = _same(second, first) | _same(first, first) | _same(second, second)
        losses = (losses + _find(vectors[1], vectors[0], back, temperature)[0]) / 2
    return Loss(losses.mean(), {"embed": PartSums(losses.detach().sum(), _count(losses), right.sum())})


def _find(queries: Tensor, among: Tensor, known: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return losses [B] and hits [B] of vectors [B, H] that look for the same place of others [C, H].

    Places that are `known` [B, C] to be alike are left out, but for the one looked for.
    """
    places = torch.arange(len(queries), device=queries.device)
    wrong = known.index_put((places, places), torch.zeros_like(places, dtype=torch.bool))
    logits = (queries @ among.T / temperature).masked_fill(wrong, -torch.inf)
    return functional.cross_entropy(logits, places, reduction="none"), logits.argmax(-1) == places


def _same(left: Tensor, right: Tensor) -> Tensor:
    return left[:, None] == right[None, :]


def _count(values: Tensor) -> Tensor:
    return torch.full((), values.numel(), device=values.device)


def evaluate_vectors(vectors: np.ndarray, examples: Sentences, *, mistakes: int = 0) -> EvalResult:
    """Evaluate vectors [U, H] of the texts of examples: by their scores, or by finding the text each is paired with."""
    if examples.scores is not None:
        return _evaluate_scores(vectors, examples, examples.scores, mistakes=mistakes)
    ranks = rank_texts(vectors, examples.members[:, :2], examples.members[:, 2:].reshape(-1))
    return EvalResult(
        figures=retrieval_figures(ranks.rank),
        table=_table_of_ranks(ranks),
        mistakes=[
            Mistake(
                text=examples.texts[ranks.queries[place]],
                label=f"{examples.texts[ranks.right[place]]} (place {ranks.rank[place]:,})",
                prediction=examples.texts[ranks.best[place]],
                error=float(ranks.rank[place]),
            )
            for place in worst_first(ranks.rank - 1, mistakes)
        ],
    )


def resampled_vectors(vectors: np.ndarray, examples: Sentences) -> Resampled:
    """Return what `evaluate_vectors` gives on any choice of scored pairs, or of texts that look for others."""
    if examples.scores is None:
        ranks = rank_texts(vectors, examples.members[:, :2], examples.members[:, 2:].reshape(-1))
        return Resampled(len(ranks.rank), lambda places: retrieval_figures(ranks.rank[places]))
    scores, similarity = examples.scores, cosines(vectors[examples.members[:, 0]], vectors[examples.members[:, 1]])
    return Resampled(len(scores), lambda places: score_figures(scores[places], similarity[places]))


def _table_of_ranks(ranks: Ranks) -> ResultTable:
    rows, begin = [], 1
    for end, name in ((1, "1"), (3, "2 to 3"), (10, "4 to 10"), (100, "11 to 100"), (int(ranks.rank.max()), "later")):
        count = int(((ranks.rank >= begin) & (ranks.rank <= end)).sum())
        rows.append([name, f"{count:,}", f"{count / len(ranks.rank):.1%}"])
        begin = end + 1
    return ResultTable("place of the right text", ["place", "texts", "fraction"], rows)


def _evaluate_scores(vectors: np.ndarray, examples: Sentences, scores: np.ndarray, *, mistakes: int) -> EvalResult:
    similarity = cosines(vectors[examples.members[:, 0]], vectors[examples.members[:, 1]])
    fifths = np.minimum((scaled(scores) * 5).astype(np.int64), 4)
    low, width = float(scores.min()), float(np.ptp(scores)) / 5
    rows = []
    for fifth in np.unique(fifths).tolist():
        some = similarity[fifths == fifth]
        middle = [f"{value:.3f}" for value in np.quantile(some, (0.1, 0.5, 0.9))]
        rows.append([f"{low + fifth * width:g} to {low + (fifth + 1) * width:g}", f"{len(some):,}", *middle])
    errors = np.abs(_order(similarity) - _order(scores))
    return EvalResult(
        figures=score_figures(scores, similarity),
        table=ResultTable("cosine by score", ["score", "pairs", "10%", "median", "90%"], rows),
        mistakes=[
            Mistake(
                text=examples.shown(place),
                label=f"{scores[place]:g}",
                prediction=f"cosine {similarity[place]:.3f}",
                error=float(errors[place]),
            )
            for place in np.argsort(-errors, kind="stable")[:mistakes].tolist()
        ],
    )


def _order(values: np.ndarray) -> np.ndarray:
    """Return where each value [N] stands among all, from 0 to 1."""
    from scipy.stats import rankdata

    order: np.ndarray = (rankdata(values) - 1) / max(1, len(values) - 1)
    return order
