"""Span masking: hides runs of whole words, so that a token is rarely guessed from the other half of its phrase.

With the span boundary objective each masked token is predicted a second time, from the hidden states on either side of
its run and its place in it alone, so that these learn to hold what stands between them.

Source: Joshi et al. 2020, "SpanBERT: Improving Pre-training by Representing and Predicting Spans", sections 3.1, 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertwright.config import Section
from bertwright.objectives.base import FlopsOf, Vocabulary
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.masking import first_slots, runs_open, select_spans
from bertwright.objectives.mlm import MaskedLanguageModel, token_loss
from bertwright.types import Batch, Loss, MaskedBatch, Scores

P, LONGEST = 0.2, 10
SHARES = tuple(P * (1 - P) ** words for words in range(LONGEST))
"""How often a span has 1 to 10 words, up to a factor: geometric, as published; 3.8 words in the mean."""
PLACES = 20
"""Places in a run that the boundary head knows, as in the reference implementation; tokens further in are not asked."""
SMALL = 0.1
"""Size of the first vectors of the boundary head: its first predictions are nearly the unigram model's."""


class SpanConfig(Section):
    """What `objective.options.span` may hold."""

    boundary: bool = False
    """Predict each masked token from both ends of its span too: the span boundary objective."""


@dataclass(frozen=True)
class SpanMasking(MaskedLanguageModel):
    """Masks spans of whole words; all tokens of a run are [MASK], or random, or left as they are."""

    options: ClassVar[type[Section]] = SpanConfig
    boundary: bool = False

    @classmethod
    def from_config(cls, config: ObjectiveConfig, vocabulary: Vocabulary, options: Any) -> Self:
        """Return the objective that settings describe."""
        return replace(super().from_config(config, vocabulary, options), boundary=options.boundary)

    @property
    def units(self) -> str:
        """What is chosen to be masked."""
        return f"spans of 1 to {LONGEST} whole words"

    def select(self, batch: Batch, rate: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return positions and weights [B, M] of spans of tokens (see `select_spans`)."""
        return select_spans(batch, rate=rate, lengths=SHARES, generator=generator)

    def hide(self, batch: Batch, positions: Tensor, weights: Tensor, generator: torch.Generator) -> MaskedBatch:
        """Return the batch with the chosen tokens hidden, their labels and, if they are read, their boundaries."""
        example = super().hide(batch, positions, weights, generator)
        return replace(example, boundaries=boundaries_of(positions, weights)) if self.boundary else example

    def hidden_ids(
        self,
        batch: Batch,
        positions: Tensor,
        weights: Tensor,
        generator: torch.Generator,
        *,
        alike: Tensor | None = None,
    ) -> Tensor:
        """Return ids [B, S] with each run of tokens at `positions` hidden as a whole."""
        return super().hidden_ids(batch, positions, weights, generator, alike=first_slots(runs_open(positions)))

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the operations of training on a batch: with boundaries, nearly those of twice as many slots.

        About as many boundaries as slots pass the last block, and each slot is scored a second time.
        """
        return flops_of(masked=self.masked_slots(length, progress) * (2 if self.boundary else 1))

    def new_head(self, width: int, output_width: int) -> nn.Module | None:
        """Return what predicts tokens from the ends of their span, where that is asked for."""
        return BoundaryHead(width, output_width) if self.boundary else None

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the mean loss of the masked tokens, plus that of their prediction from both ends, if there is one."""
        found = super().loss(scores, example, beside)
        if scores.boundary is None:
            return found
        run, place = runs_and_places(example)
        asked = (run < boundaries(example).shape[2]) & (place < PLACES)
        other = token_loss(scores.boundary, example, part="boundary", asked=asked)
        return Loss(found.total + other.total, found.parts | other.parts)


class BoundaryHead(nn.Module):
    """Turns the hidden states before and after a run, and a place in it, into a vector for the token there.

    Two layers with GELU and LayerNorm, as published. The first reads the three side by side: that is the sum of a
    product with each, and the product with an embedding of a place is an embedding too. The vector is scored by the
    word embeddings, as the masked-token head scores its own.
    """

    def __init__(self, width: int, output_width: int) -> None:
        """Draw the weights from torch's default generator."""
        super().__init__()
        self.before, self.after = nn.Linear(width, width), nn.Linear(width, width, bias=False)
        self.places = nn.Embedding(PLACES, width)
        self.first_norm, self.norm = nn.LayerNorm(width), nn.LayerNorm(output_width)
        self.dense = nn.Linear(width, output_width)
        for table in (self.before.weight, self.after.weight, self.places.weight, self.dense.weight):
            nn.init.trunc_normal_(table, std=0.02, a=-0.04, b=0.04)
        for bias in (self.before.bias, self.dense.bias):
            nn.init.zeros_(bias)
        nn.init.constant_(self.norm.weight, SMALL)

    def forward(self, hidden: Tensor, example: MaskedBatch) -> Tensor:
        """Return vectors [B, M, E] from hidden states [B, 2 K, H] at the boundaries of a batch."""
        before, after = hidden.chunk(2, 1)
        run, place = runs_and_places(example)
        ends = self.before(before) + self.after(after)
        mine = run.clamp(max=ends.shape[1] - 1)[:, :, None].expand(-1, -1, ends.shape[2])
        first = ends.gather(1, mine) + self.places(place.clamp(0, PLACES - 1))
        vectors: Tensor = self.norm(functional.gelu(self.dense(self.first_norm(functional.gelu(first)))))
        return vectors


def boundaries(example: MaskedBatch) -> Tensor:
    """Return the boundaries of a batch that has some."""
    assert example.boundaries is not None
    return example.boundaries


def boundaries_of(positions: Tensor, weights: Tensor) -> Tensor:
    """Return [B, 2, K] int64: the positions before and after each run of masked tokens, 0 where there are fewer.

    K is half of M, and 1 more: a row has fewer runs but by rare chance; those past K are left out.

    >>> boundaries_of(torch.tensor([[3, 4, 5, 8, 0]]), torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])).tolist()
    [[[2, 7, 0], [6, 9, 0]]]
    """
    most, used, opens = positions.shape[1] // 2 + 1, weights > 0, runs_open(positions)
    run = (opens.cumsum(1) - 1).clamp(max=most)
    closes = functional.pad(opens[:, 1:], (0, 1), value=True)
    found = positions.new_zeros((len(positions), 2, most + 1))  # the last is of none
    found[:, 0].scatter_(1, run.where(opens & used, most), positions - 1)
    found[:, 1].scatter_(1, run.where(closes & used, most), positions + 1)
    return found[:, :, :most].contiguous()


def runs_and_places(example: MaskedBatch) -> tuple[Tensor, Tensor]:
    """Return [B, M] int64 each: the number of the run that each masked token is in, and its place there, from 0."""
    before = boundaries(example)[:, 0]
    run = runs_open(example.masked_positions).cumsum(1) - 1
    first = before.gather(1, run.clamp(max=before.shape[1] - 1)) + 1
    return run, example.masked_positions - first
