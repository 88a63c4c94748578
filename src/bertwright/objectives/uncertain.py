"""Masks where the model is uncertain: the entropies of its predictions, nothing masked, decide which tokens are masked.

A share of the draw stays uniform, so that no token is out of reach. Source: Srinivasagan et al. (2026), "Entropy-aware
Masking for Masked Language Modeling", arXiv:2605.28526 (self-masking: no second model is needed).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor

from bertwright.config import Section
from bertwright.errors import ConfigError
from bertwright.objectives.base import FirstScores, FlopsOf, NamedObjective, Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import masked_slots, select_tokens
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.types import Batch, Loss, MaskedBatch, Scores

AT_ONCE = 2**24
"""Logits that entropies are computed of at a time: 64 MB."""


class UncertainConfig(Section):
    """What `objective.options.uncertain` may hold."""

    scored: float = Field(default=0.5, gt=0, le=1)
    """Fraction of a row's tokens whose entropy is computed, chosen uniformly; those to be masked are among them."""
    random_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the draw that is uniform over these; the rest is in proportion to their entropies."""


@dataclass(frozen=True)
class UncertainTokens(NamedObjective):
    """The masked language model, whose tokens or whole words are chosen by the entropy of the model at them."""

    options: ClassVar[type[Section]] = UncertainConfig
    mlm: MaskedLanguageModel
    scored: float
    random_share: float

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective; raises ConfigError where more tokens are masked than the model scores."""
        mlm = MaskedLanguageModel.from_config(config, vocabulary, None)
        if options.scored < mlm.highest_rate:
            raise ConfigError(
                f"objective.options.uncertain.scored: {options.scored} of the tokens are fewer than are masked; give "
                "more, or a smaller --mask-rate"
            )
        return cls(mlm, options.scored, options.random_share)

    @property
    def asks_model(self) -> bool:
        """The model scores the batch first."""
        return True

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.mlm.has_dynamic_slots

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens."""
        return self.mlm.masked_slots(length, progress)

    def describe(self, progress: float = 1.0) -> str:
        """Return which tokens are masked at `progress` of a run, and how."""
        return f"{self.mlm.describe(progress)}, where the model is uncertain"

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the operations of training on a batch, and of the forward pass before it: a third of a step's."""
        scored = flops_of(masked=masked_slots(length, self.scored)) // 3
        return flops_of(masked=self.masked_slots(length, progress)) + scored

    def auxiliary_batch(self, batch: Batch, generator: torch.Generator, progress: float) -> MaskedBatch:
        """Return the batch as it is, with the tokens as slots whose entropy is computed."""
        whole = self.mlm.whole_word
        positions, weights = select_tokens(batch, rate=self.scored, whole_word=whole, generator=generator)
        unhidden = replace(self.mlm, mask_share=0.0, random_share=0.0)
        return unhidden.hide(batch, positions, weights, generator)

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch with tokens hidden where the model is uncertain; anywhere where it has scored nothing."""
        if first is None:
            return self.mlm.corrupt(batch, generator, progress)
        scored, scores = first
        shares = self.shares_of(batch, scored, entropies(scores.mlm))
        positions, weights = select_tokens(
            batch,
            rate=self.mlm.rate_at(progress),
            whole_word=self.mlm.whole_word,
            generator=generator,
            shares=shares,
        )
        return self.mlm.hide(batch, positions, weights, generator)

    def shares_of(self, batch: Batch, scored: MaskedBatch, uncertainty: Tensor) -> Tensor:
        """Return [B, S]: the share of the draw that each token has, of entropies [B, M]; 0 where it was not scored."""
        used = scored.masked_weights
        mean = (uncertainty * used).sum(1, keepdim=True) / used.sum(1, keepdim=True).clamp(min=1.0)
        mixed = (self.random_share * mean + (1 - self.random_share) * uncertainty).clamp(min=1e-6) * used
        return mixed.new_zeros(batch.input_ids.shape).scatter_add_(1, scored.masked_positions, mixed)

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the masked tokens (nats), part "mlm"."""
        return self.mlm.loss(scores, example)


def entropies(logits: Tensor) -> Tensor:
    """Return the entropies [B, M] (nats, float32) of the distributions that `logits` [B, M, V] stand for."""
    flat = logits.flatten(0, 1)
    step = max(1, AT_ONCE // flat.shape[1])
    parts = [_entropies(flat[first : first + step].float()) for first in range(0, len(flat), step)]
    return torch.cat(parts).view(logits.shape[:2])


def _entropies(logits: Tensor) -> Tensor:
    logs = logits.log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)
