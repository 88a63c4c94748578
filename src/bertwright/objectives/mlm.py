"""The masked language model: hides tokens of a batch, and turns the predictions of them into a loss.

Source: Devlin et al. 2018, section 3.1, task 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from bertwright.objectives.base import FirstScores, NamedObjective, Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import corrupt_tokens, masked_slots, select_tokens
from bertwright.types import Batch, Loss, MaskedBatch, PartSums, Scores


@dataclass(frozen=True)
class MaskedLanguageModel(NamedObjective):
    """What to hide and how; every random number comes from the generator handed in."""

    vocab_size: int
    mask_id: int
    rate: float = 0.15
    final_rate: float | None = None
    whole_word: bool = False
    mask_share: float = 0.8
    random_share: float = 0.1

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe."""
        return cls(
            vocab_size=vocabulary.size,
            mask_id=vocabulary.mask_id,
            rate=config.mask_rate,
            final_rate=config.final_mask_rate,
            whole_word=config.whole_word,
            mask_share=config.mask_share,
            random_share=config.random_share,
        )

    def rate_at(self, progress: float) -> float:
        """Return the fraction of tokens masked at `progress` in [0, 1] of a run: a straight line to `final_rate`.

        Ankner et al. (2024), "Dynamic Masking Rate Schedules for MLM Pretraining".
        """
        return self.rate if self.final_rate is None else self.rate + progress * (self.final_rate - self.rate)

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.final_rate is not None

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens."""
        return masked_slots(length, self.rate_at(progress))

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch with tokens hidden, and their labels."""
        rate = self.rate_at(progress)
        positions, weights = select_tokens(batch, rate=rate, whole_word=self.whole_word, generator=generator)
        return self.hide(batch, positions, weights, generator)

    def hide(self, batch: Batch, positions: Tensor, weights: Tensor, generator: torch.Generator) -> MaskedBatch:
        """Return the batch with the tokens hidden that were chosen (see `select_tokens`), and their labels."""
        input_ids = corrupt_tokens(
            batch.input_ids,
            positions,
            weights,
            mask_id=self.mask_id,
            vocab_size=self.vocab_size,
            mask_share=self.mask_share,
            random_share=self.random_share,
            generator=generator,
        )
        return MaskedBatch(
            input_ids=input_ids,
            token_type_ids=batch.token_type_ids,
            attention_mask=batch.attention_mask,
            masked_positions=positions,
            masked_labels=batch.input_ids.gather(1, positions) * weights.long(),
            masked_weights=weights,
            next_label=batch.next_label,
            documents=batch.documents,
        )

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the masked tokens (nats); see `token_loss`."""
        return token_loss(scores.mlm, example, part="mlm")


def token_loss(logits: Tensor, example: MaskedBatch, *, part: str) -> Loss:
    """Return the mean loss of the used slots (nats), in float32 whatever the type of `logits` [B, M, V].

    `part` is what the loss goes by among the parts of a run's.
    """
    logits = logits.float().flatten(0, 1)
    labels, weights = example.masked_labels.flatten(), example.masked_weights.flatten()
    losses = F.cross_entropy(logits, labels, reduction="none")
    correct = _top1_accuracy(logits.detach(), labels)
    summed, count = (losses * weights).sum(), weights.sum()
    slots, _ = example.divisors(count)
    return Loss(
        total=summed / slots.clamp(min=1.0),
        parts={part: PartSums(summed.detach(), count, (correct * weights).sum())},
    )


def _top1_accuracy(scores: Tensor, labels: Tensor) -> Tensor:
    """Return 1 where the label scores highest, shared evenly on a tie (bfloat16 logits tie often), else 0; [N] float32.

    Compiled on CPU with V = 8,192 this adds 5% to the work of the loss; an argmax adds 9 to 19%.
    """
    best = scores.amax(-1, keepdim=True)
    ties = (scores == best).float().sum(-1)
    return (scores.gather(1, labels[:, None]) >= best)[:, 0].float() / ties
