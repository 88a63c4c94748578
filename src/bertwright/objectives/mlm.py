"""The masked language model: hides tokens of a batch, and turns the predictions of them into a loss.

Source: Devlin et al. 2018, section 3.1, task 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bertwright.objectives.base import FirstScores, NamedObjective, Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import corrupt_tokens, masked_slots, select_tokens
from bertwright.objectives.word_loss import top1_accuracy, word_loss
from bertwright.types import Batch, Loss, MaskedBatch, PartSums, Scores, UnscoredWords


@dataclass(frozen=True)
class MaskedLanguageModel(NamedObjective):
    """What to hide and how; every random number comes from the generator handed in.

    Objectives that choose or hide tokens in another way are subclasses with `select` or `hidden_ids` of their own.
    """

    vocab_size: int
    mask_id: int
    rate: float = 0.15
    final_rate: float | None = None
    whole_word: bool = False
    mask_share: float = 0.8
    random_share: float = 0.1
    phases: tuple[tuple[float, float], ...] = ()
    """Up to which progress of a run which fraction is masked, in place of `rate` and `final_rate`."""

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe."""
        ends = accumulate(phase.share for phase in config.mask_phases)
        return cls(
            vocab_size=vocabulary.size,
            mask_id=vocabulary.mask_id,
            rate=config.mask_rate,
            final_rate=config.final_mask_rate,
            whole_word=config.whole_word,
            mask_share=config.mask_share,
            random_share=config.random_share,
            phases=tuple((end, phase.rate) for end, phase in zip(ends, config.mask_phases, strict=True)),
        )

    def rate_at(self, progress: float) -> float:
        """Return the fraction of tokens masked at `progress` in [0, 1] of a run.

        In phases (Marone et al. 2025, "mmBERT"), or on a straight line to `final_rate` (Ankner et al. 2024, "Dynamic
        Masking Rate Schedules for MLM Pretraining").
        """
        if self.phases:
            return next((rate for end, rate in self.phases if progress < end - 1e-9), self.phases[-1][1])
        return self.rate if self.final_rate is None else self.rate + progress * (self.final_rate - self.rate)

    @property
    def highest_rate(self) -> float:
        """The largest fraction that is masked at any time of a run."""
        return max((rate for _, rate in self.phases), default=max(self.rate, self.final_rate or 0.0))

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return len({rate for _, rate in self.phases}) > 1 if self.phases else self.final_rate is not None

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens."""
        return masked_slots(length, self.rate_at(progress))

    def describe(self, progress: float = 1.0) -> str:
        """Return which tokens are masked at `progress` of a run, and how."""
        kept = 1 - self.mask_share - self.random_share
        hidden = f"{self.mask_share:.0%} {self.hidden_as}, {self.random_share:.0%} random, {kept:.0%} as they are"
        return f"{self.rate_at(progress):.1%} of the tokens masked, {self.units}: {hidden}"

    @property
    def units(self) -> str:
        """What is chosen to be masked."""
        return "whole words" if self.whole_word else "single tokens"

    @property
    def hidden_as(self) -> str:
        """What most masked tokens are replaced by."""
        return "[MASK]"

    def select(self, batch: Batch, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return positions and weights [B, M] of the tokens to predict (see `select_tokens`)."""
        return select_tokens(batch, rate=rate, whole_word=self.whole_word, generator=generator)

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch with tokens hidden, and their labels."""
        positions, weights = self.select(batch, self.rate_at(progress), generator)
        return self.hide(batch, positions, weights, generator)

    def hide(self, batch: Batch, positions: Tensor, weights: Tensor, generator: torch.Generator) -> MaskedBatch:
        """Return the batch with the tokens hidden that were chosen (see `select_tokens`), and their labels."""
        return MaskedBatch(
            input_ids=self.hidden_ids(batch, positions, weights, generator),
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
            masked_positions=positions,
            masked_labels=batch.input_ids.gather(1, positions) * weights.long(),
            masked_weights=weights,
            next_label=batch.next_label,
            documents=batch.documents,
            layout=batch.layout,
        )

    def hidden_ids(
        self,
        batch: Batch,
        positions: Tensor,
        weights: Tensor,
        generator: torch.Generator,
        *,
        alike: Tensor | None = None,
    ) -> Tensor:
        """Return ids [B, S] with the chosen tokens hidden, slots of one number in `alike` alike: `corrupt_tokens`."""
        return corrupt_tokens(
            batch.input_ids,
            positions,
            weights,
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
            mask_share=self.mask_share,
            random_share=self.random_share,
            generator=generator,
            alike=alike,
        )

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the masked tokens (nats); see `token_loss`."""
        return token_loss(scores.of_words, example, part="mlm")


def token_loss(logits: Tensor | UnscoredWords, example: MaskedBatch, *, part: str, asked: Tensor | None = None) -> Loss:
    """Return the mean loss of the used slots (nats), in float32 whatever the type of `logits` [B, M, V].

    `part` is what the loss goes by among the parts of a run's. Slots that are not `asked` [B, M] bool add nothing to
    that mean. Instead of logits there may be what they are products of (see `word_loss`).
    """
    labels, weights = example.masked_labels.flatten(), example.masked_weights.flatten()
    slots, _ = example.divisors(weights.sum())
    weights = weights if asked is None else weights * asked.flatten()
    if isinstance(logits, UnscoredWords):
        summed, correct = word_loss(logits, example.masked_labels, weights.view(example.masked_labels.shape))
    else:
        scores = logits.float().flatten(0, 1)
        losses = F.cross_entropy(scores, labels, reduction="none")
        right = top1_accuracy(scores.detach(), labels)
        summed, correct = (losses * weights).sum(), (right * weights).sum()
    return Loss(total=summed / slots.clamp(min=1.0), parts={part: PartSums(summed.detach(), weights.sum(), correct)})
