"""N-gram masking: hides one to four whole words in a row, fewer more often.

Source: Cui et al. 2020, "Revisiting Pre-Trained Models for Chinese Natural Language Processing" (MacBERT), section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bertwright.objectives.masking import select_spans
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.types import Batch

SHARES = (0.4, 0.3, 0.2, 0.1)
"""How often 1 to 4 words are masked in a row, as published."""


@dataclass(frozen=True)
class NgramMasking(MaskedLanguageModel):
    """Masks n-grams of whole words, each token by itself [MASK], random or left as it is."""

    @property
    def units(self) -> str:
        """What is chosen to be masked."""
        return f"n-grams of 1 to {len(SHARES)} whole words"

    def select(self, batch: Batch, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return positions and weights [B, M] of n-grams of tokens (see `select_spans`)."""
        return select_spans(batch, rate=rate, lengths=SHARES, generator=generator)
