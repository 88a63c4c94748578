"""Turns settings into the objective of a run: masking alone, or masking and next sentence prediction together.

The total is the mean loss of the masked tokens plus the mean loss of the pairs (Devlin et al. 2018, appendix A.2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import Field, model_validator
from torch import Tensor

from bertwright.config import Section
from bertwright.errors import DataError, ModelError
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.objectives.nsp import next_sentence_sums
from bertwright.types import Batch, MaskedBatch, Scores


class ObjectiveConfig(Section):
    """What a run is trained on."""

    mask_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of a row's tokens that are asked about."""
    final_mask_rate: float | None = Field(default=None, gt=0.0, lt=1.0)
    """That share at the end of the run, reached linearly; the same throughout where not given. Held-out text is masked
    at 15% whatever both are."""
    whole_word: bool = False
    """Ask about whole words instead of single tokens."""
    next_sentence: bool = True
    """Train on sentence pairs with next sentence prediction beside masking."""
    mask_share: float = Field(default=0.8, ge=0.0, le=1.0)
    """Of the tokens asked about, the share replaced by [MASK]."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Of the tokens asked about, the share replaced by a random token; the rest is left as it is."""

    @model_validator(mode="after")
    def _shares_fit(self) -> ObjectiveConfig:
        if self.mask_share + self.random_share > 1.0 + 1e-9:
            raise ValueError("mask_share and random_share add up to more than 1; give shares of at most 1 together")
        return self

    def for_evaluation(self) -> ObjectiveConfig:
        """Return how held-out text is masked: 15%, 80/10/10, as published, so that all runs are measured alike.

        Only what is predicted stays as in training: single tokens or whole words, sentence pairs or none.
        """
        return ObjectiveConfig(whole_word=self.whole_word, next_sentence=self.next_sentence)


@dataclass(frozen=True)
class LossParts:
    """The loss of a batch and what it is made of; scalars, float32, `total` differentiable.

    total        mean loss of the masked tokens, plus mean loss of the pairs where they are trained on, in nats; for
                 some rows of a micro-batch, their share of that of all its rows
    mlm_sum      summed loss of the masked tokens;  masked: their number;  mlm_correct: guessed right
    nsp_sum      summed loss of the pairs;  rows: number of pairs;  nsp_correct: guessed right (0 without pairs)
    nsp_random   number of pairs with a random B;  nsp_random_correct: those of them guessed right (0 without pairs)
    """

    total: Tensor
    mlm_sum: Tensor
    masked: Tensor
    mlm_correct: Tensor
    nsp_sum: Tensor
    nsp_correct: Tensor
    nsp_random: Tensor
    nsp_random_correct: Tensor
    rows: Tensor

    def sums(self) -> dict[str, Tensor]:
        """Return the sums by part, as "part_sum", "part_count" and "part_correct"; they add up over batches.

        Of the pairs also "nsp_random" and "nsp_random_correct", for `pair_figures`.
        """
        return {
            "mlm_sum": self.mlm_sum.detach(),
            "mlm_count": self.masked,
            "mlm_correct": self.mlm_correct,
            "nsp_sum": self.nsp_sum.detach(),
            "nsp_count": self.rows,
            "nsp_correct": self.nsp_correct,
            "nsp_random": self.nsp_random,
            "nsp_random_correct": self.nsp_random_correct,
        }


class Objective(Protocol):
    """What the training loop needs of an objective; both methods are pure, and neither knows the model."""

    @property
    def pairs(self) -> bool:
        """Whether batches must be of sentence pairs."""

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens at `progress` in [0, 1] of a run."""

    def corrupt(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> MaskedBatch:
        """Return what the model sees and what it is asked at `progress` of a run, drawn from `generator` alone."""

    def loss(self, scores: Scores, example: MaskedBatch) -> LossParts:
        """Return the loss; it can be compiled as one graph with the model."""


@dataclass(frozen=True)
class PretrainingObjective:
    """Masking, and next sentence prediction where `pairs`."""

    mlm: MaskedLanguageModel
    pairs: bool

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.mlm.final_rate is not None

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens at `progress` in [0, 1] of a run."""
        return self.mlm.masked_slots(length, progress)

    def corrupt(self, batch: Batch, generator: torch.Generator, progress: float = 1.0) -> MaskedBatch:
        """Return the batch with tokens hidden; raises DataError where pairs are needed and it has none."""
        if self.pairs and batch.next_label is None:
            raise DataError("next sentence prediction was given rows of one segment; draw them with pairs=True")
        return self.mlm.corrupt(batch, generator, progress)

    def loss(self, scores: Scores, example: MaskedBatch) -> LossParts:
        """Return the mean loss of the masked tokens, plus the mean loss of the pairs, and the sums behind them."""
        masked = self.mlm.loss(scores.mlm, example)
        rows = torch.full_like(masked.count, example.input_ids.shape[0])
        asked, asked_rows = (masked.count, rows) if example.normalizer is None else example.normalizer.unbind()
        total = masked.loss / asked.clamp(min=1.0)
        if not self.pairs or example.next_label is None:
            zero = torch.zeros_like(masked.count)
            return LossParts(total, masked.loss, masked.count, masked.correct, zero, zero, zero, zero, zero)
        if scores.nsp is None:
            raise ModelError("next sentence prediction needs a model with a next-sentence head; train masking alone")
        pairs = next_sentence_sums(scores.nsp, example.next_label)
        return LossParts(
            total=total + pairs.loss / asked_rows,
            mlm_sum=masked.loss,
            masked=masked.count,
            mlm_correct=masked.correct,
            nsp_sum=pairs.loss,
            nsp_correct=pairs.correct,
            nsp_random=pairs.random,
            nsp_random_correct=pairs.random_correct,
            rows=rows,
        )


def build_objective(config: ObjectiveConfig, *, vocab_size: int, mask_id: int) -> Objective:
    """Return the objective that `config` describes, for a vocabulary and its [MASK]."""
    mlm = MaskedLanguageModel(
        vocab_size=vocab_size,
        mask_id=mask_id,
        rate=config.mask_rate,
        final_rate=config.final_mask_rate,
        whole_word=config.whole_word,
        mask_share=config.mask_share,
        random_share=config.random_share,
    )
    return PretrainingObjective(mlm=mlm, pairs=config.next_sentence)
