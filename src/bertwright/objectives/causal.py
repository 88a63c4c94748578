"""Causal first, masked after: in some phases of a run the encoder predicts each next token, as a decoder does.

The attention mask and what is predicted where are all that differs: the encoder, its masked-token head and the folder
that is written are the same. Source: Gisserot-Boukhlef et al. (2025), "Should We Still Pretrain Encoders with Masked
Language Modeling?", arXiv:2507.00994.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from bertwright.objectives.base import EncoderOf, FirstScores, FlopsOf, PretrainingObjective, Rows
from bertwright.objectives.mlm import token_loss
from bertwright.types import Batch, Loss, MaskedBatch, Scores


@dataclass(frozen=True)
class CausalPhases(PretrainingObjective):
    """Predicts next tokens in the causal phases of a run, and does what `masked` does in the others.

    Rows are those of `masked` throughout; the loss of pairs of segments waits for its phases, since [CLS] sees nothing
    of a row whose tokens attend to those before them.

    masked     the objective of the other phases
    is_causal  says at which progress in [0, 1] of a run a phase is causal
    """

    masked: PretrainingObjective
    is_causal: Callable[[float], bool]

    @property
    def rows(self) -> Rows:
        """The rows that `masked` needs."""
        return self.masked.rows

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether the M of masked phases changes along a run."""
        return self.masked.has_dynamic_slots

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens: all but the last in a causal phase."""
        return length - 1 if self.is_causal(progress) else self.masked.masked_slots(length, progress)

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the modules of the model that the auxiliary module has too."""
        return self.masked.shared

    @property
    def asks_model(self) -> bool:
        """Whether `masked` has the model itself score a batch first."""
        return self.masked.asks_model

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the useful operations of training on a batch; attention counts over the whole row in either phase."""
        if self.is_causal(progress):
            return flops_of(masked=length - 1)
        return self.masked.flops(flops_of, length=length, progress=progress)

    def describe(self, progress: float = 1.0) -> str:
        """Return what is predicted at `progress` of a run."""
        if self.is_causal(progress):
            return "each next token, from those before it"
        return self.masked.describe(progress)

    def new_head(self, width: int, output_width: int) -> nn.Module | None:
        """Return the head of `masked`."""
        return self.masked.new_head(width, output_width)

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch as it is with each next token as label, or what `masked` returns."""
        if self.is_causal(progress):
            return next_tokens(batch)
        return self.masked.corrupt(batch, generator, progress, first)

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of next tokens (nats), part "causal", or that of `masked`."""
        if example.causal:
            return token_loss(scores.of_words, example, part="causal")
        return self.masked.loss(scores, example, beside)

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of `masked`."""
        return self.masked.figures(sums)

    def new_auxiliary(self, encoder_of: EncoderOf) -> nn.Module | None:
        """Return the auxiliary module of `masked`."""
        return self.masked.new_auxiliary(encoder_of)

    def auxiliary_batch(self, batch: Batch, generator: torch.Generator, progress: float) -> MaskedBatch | None:
        """Return what the auxiliary module of `masked` scores; nothing in a causal phase."""
        return None if self.is_causal(progress) else self.masked.auxiliary_batch(batch, generator, progress)


def next_tokens(batch: Batch) -> MaskedBatch:
    """Return a batch as it is, the label of each position the token after it; those that came from text count."""
    weights = batch.maskable[:, 1:].float()
    positions = torch.arange(weights.shape[1], device=weights.device).repeat(len(weights), 1)
    return MaskedBatch(
        input_ids=batch.input_ids,
        token_type_ids=batch.token_type_ids,
        attention_mask=batch.attention_mask,
        masked_positions=positions,
        masked_labels=batch.input_ids[:, 1:] * weights.long(),
        masked_weights=weights,
        next_label=batch.next_label,
        documents=batch.documents,
        layout=batch.layout,
        causal=True,
    )
