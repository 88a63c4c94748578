"""MacBERT's masking: n-grams of whole words, hidden by similar words in place of [MASK], which fine-tuning never sees.

Source: Cui et al. 2020, "Revisiting Pre-Trained Models for Chinese Natural Language Processing", section 3.2. There
word2vec says which words are similar; here it is which tokens have the same neighbours in the corpus of the run. A word
of several tokens is replaced token by token.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from bertwright.errors import ConfigError
from bertwright.objectives.base import Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import first_slots, runs_open
from bertwright.objectives.ngram import NgramMasking
from bertwright.types import Batch


@dataclass(frozen=True)
class SimilarWords(NgramMasking):
    """Masks n-grams; the tokens of a word are all similar ones, or all random, or all left as they are.

    `mask_share` is the share of similar words. A token without similar ones is replaced by a random one.
    """

    similar: Tensor | None = None
    """[V, K] int64, see `Vocabulary`."""

    @property
    def hidden_as(self) -> str:
        """What most masked tokens are replaced by."""
        return "similar"

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe; raises ConfigError where no corpus is at hand."""
        if vocabulary.similar is None:
            raise ConfigError("objective.names: macbert needs the DATA folder in which words were counted; give mlm")
        return replace(super().from_config(config, vocabulary, options), similar=vocabulary.similar())

    def hidden_ids(
        self,
        batch: Batch,
        positions: Tensor,
        weights: Tensor,
        generator: torch.Generator,
        *,
        alike: Tensor | None = None,
    ) -> Tensor:
        """Return ids [B, S] in which tokens similar to them, random ones, or they themselves stand at `positions`."""
        assert self.similar is not None
        word = first_slots(batch.word_starts.gather(1, positions) | runs_open(positions))
        ids = super().hidden_ids(batch, positions, weights, generator, alike=word)
        true, hidden = batch.input_ids.gather(1, positions), ids.gather(1, positions)
        device, count = true.device, self.similar.shape[1]
        place = torch.randint(count, true.shape, generator=generator, device=device)
        random = torch.randint(self.vocab_size, true.shape, generator=generator, device=device)
        near = self.similar.to(device)[true, place]
        near = random.where(near < 0, near)
        return ids.scatter(1, positions, near.where((hidden == self.mask_id) & (weights > 0), hidden))
