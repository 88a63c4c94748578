"""Replaced-token detection: a small generator writes over some tokens, and the model says of each which were replaced.

The generator is a masked language model trained beside the model. Both share the embeddings of words, positions and
token types, and its other dimensions are a share of the model's. Source: Clark et al. (2020), "ELECTRA: Pre-training
Text Encoders as Discriminators Rather Than Generators", sections 2 and 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from bertwright.config import Section
from bertwright.errors import ModelError
from bertwright.objectives.base import EncoderOf, FirstScores, FlopsOf, NamedObjective, Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.objectives.nsp import pair_figures
from bertwright.types import Batch, Loss, MaskedBatch, PartSums, Scores


class RtdConfig(Section):
    """What `objective.options.rtd` may hold."""

    weight: float = Field(default=50.0, gt=0)
    """Factor on the loss of the model, beside that of the generator."""
    width: float = Field(default=0.25, gt=0, le=1)
    """Width, heads and inner layer of the generator, as a share of the model's; it has as many blocks."""


@dataclass(frozen=True)
class ReplacedTokenDetection(NamedObjective):
    """Tokens are masked, the generator draws others for them, and the model says of every token if it was replaced."""

    options: ClassVar[type[Section]] = RtdConfig
    finds_replaced: ClassVar[bool] = True
    shares: ClassVar[tuple[str, ...]] = tuple(f"embeddings.{name}" for name in ("words", "positions", "types", "norm"))
    mlm: MaskedLanguageModel
    weight: float = 50.0
    width: float = 0.25

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe; those of masking are the generator's."""
        return cls(MaskedLanguageModel.from_config(config, vocabulary, None), options.weight, options.width)

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M, of the generator, changes along a run."""
        return self.mlm.has_dynamic_slots

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens that the generator writes."""
        return self.mlm.masked_slots(length, progress)

    def describe(self, progress: float = 1.0) -> str:
        """Return which tokens are masked at `progress` of a run, and how."""
        return f"{self.mlm.describe(progress)}, for the generator"

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the operations of the model, which scores every token, and of the generator, which runs once more."""
        generator = flops_of(masked=self.masked_slots(length, progress), width=self.width, discriminator=False)
        return flops_of(masked=length, outputs=1) + generator * 4 // 3

    def new_auxiliary(self, encoder_of: EncoderOf) -> nn.Module:
        """Return the generator."""
        return encoder_of(width=self.width, discriminator=False)

    def auxiliary_batch(self, batch: Batch, generator: torch.Generator, progress: float) -> MaskedBatch:
        """Return the batch with tokens masked: what the generator scores."""
        return self.mlm.corrupt(batch, generator, progress)

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch with tokens the generator drew; where it scored nothing, what it would score."""
        if first is None:
            return self.mlm.corrupt(batch, generator, progress)
        masked, scores = first
        return written(masked, drawn(scores.mlm, generator))

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the generator, part "mlm", plus `weight` times that of all tokens, part "rtd" (nats).

        "rtd_replaced" counts those of them that were replaced: a token drawn as it was is none. Raises ModelError where
        the model has no head for them.
        """
        if scores.replaced is None or beside is None:
            raise ModelError("replaced-token detection needs a model with a head for it, and a generator beside it")
        generator = self.mlm.loss(beside, example)
        labels, weights = replaced(example), example.attention_mask.float()
        logits = scores.replaced.float()
        losses = functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")
        correct = ((logits > 0) == (labels > 0)).float() * weights
        summed, count, of_replaced = (losses * weights).sum(), weights.sum(), (labels * weights).sum()
        parts = {
            "rtd": PartSums(summed.detach(), count, correct.sum()),
            "rtd_replaced": PartSums(None, of_replaced, (correct * labels).sum()),
        }
        total = generator.total + self.weight * summed / example.token_divisor()
        return Loss(total, generator.parts | parts)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return rtd_balanced_accuracy and rtd_majority, the share of the more frequent class (see `pair_figures`)."""
        return pair_figures(sums, part="rtd", second="replaced") if sums.get("rtd_count") else {}


def drawn(logits: Tensor, generator: torch.Generator) -> Tensor:
    """Return [B, M] int64: a token for each slot, drawn from the distribution that `logits` [B, M, V] stand for.

    By the inverse of its cumulative sums, which takes one random number a slot instead of one a word.
    """
    sums = logits.float().softmax(-1).cumsum(-1)
    coins = torch.rand(logits.shape[:2], generator=generator, device=logits.device)[..., None] * sums[..., -1:]
    return torch.searchsorted(sums, coins, right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)


def written(masked: MaskedBatch, tokens: Tensor) -> MaskedBatch:
    """Return a masked batch with `tokens` [B, M] in its used slots, and what was masked as what the generator reads."""
    kept = masked.input_ids.gather(1, masked.masked_positions)  # unused slots point at [CLS]
    tokens = torch.where(masked.masked_weights > 0, tokens, kept)
    ids = masked.input_ids.scatter(1, masked.masked_positions, tokens)
    return replace(masked, input_ids=ids, first_ids=masked.input_ids)


def replaced(example: MaskedBatch) -> Tensor:
    """Return [B, S] float32: 1 where a token of a batch is another than it was."""
    here = example.input_ids.gather(1, example.masked_positions)
    others = ((here != example.masked_labels) & (example.masked_weights > 0)).float()
    return torch.zeros_like(example.input_ids, dtype=torch.float32).scatter_add(1, example.masked_positions, others)
