"""Turns settings into the objective of a run: the one they name, or several whose losses are added up.

The usual total is the mean loss of the masked tokens plus that of the pairs (Devlin et al. 2018, appendix A.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertwright.config import compose
from bertwright.errors import ConfigError, DataError
from bertwright.objectives.base import (
    EncoderOf,
    FirstScores,
    FlopsOf,
    NamedObjective,
    PretrainingObjective,
    Rows,
    Vocabulary,
)
from bertwright.objectives.config import ObjectiveConfig
from bertwright.objectives.macbert import SimilarWords
from bertwright.objectives.mlm import MaskedLanguageModel
from bertwright.objectives.ngram import NgramMasking
from bertwright.objectives.nsp import NextSentencePrediction
from bertwright.objectives.rtd import ReplacedTokenDetection
from bertwright.objectives.sop import SentenceOrderPrediction
from bertwright.objectives.span import SpanMasking
from bertwright.objectives.uncertain import UncertainTokens
from bertwright.types import Batch, Loss, MaskedBatch, Scores

OBJECTIVES: dict[str, type[NamedObjective]] = {
    "mlm": MaskedLanguageModel,
    "span": SpanMasking,
    "ngram": NgramMasking,
    "macbert": SimilarWords,
    "nsp": NextSentencePrediction,
    "rtd": ReplacedTokenDetection,
    "sop": SentenceOrderPrediction,
    "uncertain": UncertainTokens,
}
"""Every objective, by the name it has in `objective.names`."""


@dataclass(frozen=True)
class CombinedObjective(PretrainingObjective):
    """Several objectives on the same rows: one of them may hide tokens, each has its part in the loss."""

    several: tuple[NamedObjective, ...]

    @property
    def rows(self) -> Rows:
        """What those need that need more than single segments; of one kind, as `build_objective` sees to."""
        return next((one.needs for one in self.several if one.needs != "single"), "single")

    @property
    def hider(self) -> NamedObjective:
        """The one that hides tokens; the first, where none does."""
        return next((one for one in self.several if one.hides), self.several[0])

    @property
    def has_dynamic_slots(self) -> bool:
        """Whether M changes along a run."""
        return self.hider.has_dynamic_slots

    def masked_slots(self, length: int, progress: float = 1.0) -> int:
        """Return M, the slots of a row of `length` tokens at `progress` in [0, 1] of a run."""
        return self.hider.masked_slots(length, progress)

    def describe(self, progress: float = 1.0) -> str:
        """Return which tokens are masked at `progress` of a run, and how."""
        return self.hider.describe(progress)

    def corrupt(
        self, batch: Batch, generator: torch.Generator, progress: float = 1.0, first: FirstScores | None = None
    ) -> MaskedBatch:
        """Return the batch with tokens hidden; raises DataError where pairs are needed and it has none."""
        if self.rows != "single" and batch.next_label is None:
            raise DataError(f"the objectives need rows of {self.rows.replace('_', ' ')}, and these have one segment")
        return self.hider.corrupt(batch, generator, progress, first)

    def loss(self, scores: Scores, example: MaskedBatch, beside: Scores | None = None) -> Loss:
        """Return the sum of the losses, and the parts of all of them."""
        losses = [one.loss(scores, example, beside) for one in self.several]
        total = losses[0].total
        for other in losses[1:]:
            total = total + other.total
        return Loss(total, {name: sums for loss in losses for name, sums in loss.parts.items()})

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """Return the figures of each objective, in their order."""
        return {name: value for one in self.several for name, value in one.figures(sums).items()}

    @property
    def shared(self) -> tuple[str, ...]:
        """Names of the modules of the model that the auxiliary module has too."""
        return self.hider.shared

    @property
    def asks_model(self) -> bool:
        """Whether the one that hides tokens has the model itself score a batch first."""
        return self.hider.asks_model

    def flops(self, flops_of: FlopsOf, *, length: int, progress: float) -> int:
        """Return the useful operations of training on a batch, those of the one that hides tokens."""
        return self.hider.flops(flops_of, length=length, progress=progress)

    def new_auxiliary(self, encoder_of: EncoderOf) -> nn.Module | None:
        """Return the auxiliary module of the one that hides tokens."""
        return self.hider.new_auxiliary(encoder_of)

    def new_head(self, width: int, output_width: int) -> nn.Module | None:
        """Return the head of the one that hides tokens."""
        return self.hider.new_head(width, output_width)

    def auxiliary_batch(self, batch: Batch, generator: torch.Generator, progress: float) -> MaskedBatch | None:
        """Return what the auxiliary module of the one that hides tokens scores."""
        return self.hider.auxiliary_batch(batch, generator, progress)


def build_objective(
    config: ObjectiveConfig, *, vocab_size: int, mask_id: int, similar: Callable[[], Tensor] | None = None
) -> PretrainingObjective:
    """Return the objective that `config` describes, for a vocabulary and its [MASK]; raises ConfigError.

    `similar()` returns the similar tokens of each token, where a corpus is at hand (see `Vocabulary`).
    """
    kinds = objectives_of(config)
    vocabulary = Vocabulary(vocab_size, mask_id, similar)
    several = [
        kind.from_config(config, vocabulary, compose(kind.options, config.options.get(name, {})))
        for name, kind in kinds.items()
    ]
    return several[0] if len(several) == 1 else CombinedObjective(tuple(several))


def objectives_of(config: ObjectiveConfig) -> dict[str, type[NamedObjective]]:
    """Return the objectives that settings choose, by name; raises ConfigError where they do not go together."""
    odd = next((name for name in config.chosen if name not in OBJECTIVES), None)
    if odd is not None:
        raise ConfigError(f"objective.names: no objective is called {odd!r}; known: {', '.join(OBJECTIVES)}")
    unused = next((name for name in config.options if name not in config.chosen), None)
    if unused is not None:
        raise ConfigError(f"objective.options.{unused}: the run has the objectives {', '.join(config.chosen)} alone")
    kinds = {name: OBJECTIVES[name] for name in config.chosen}
    hiding = [name for name, kind in kinds.items() if kind.hides]
    if len(kinds) < len(config.chosen):
        raise ConfigError(f"objective.names: {', '.join(config.chosen)} names an objective twice; give it once")
    if len(hiding) > 1:
        raise ConfigError(f"objective.names: {' and '.join(hiding)} each hide tokens of a row; give one of them")
    needs = {kind.needs: name for name, kind in kinds.items() if kind.needs != "single"}
    if len(needs) > 1:
        raise ConfigError(f"objective.names: {' and '.join(needs.values())} need different rows; give one of them")
    return kinds


def needs_pairs(config: ObjectiveConfig) -> bool:
    """Say whether a run with these settings is trained on rows of two segments."""
    return any(kind.needs != "single" for kind in objectives_of(config).values())


def finds_replaced(config: ObjectiveConfig) -> bool:
    """Say whether a run with these settings trains a model that says which tokens were replaced."""
    return any(kind.finds_replaced for kind in objectives_of(config).values())


def for_evaluation(config: ObjectiveConfig) -> ObjectiveConfig:
    """Return how held-out text is masked: 15%, 80/10/10, as published, so that all runs are measured alike.

    Only what is predicted stays as in training: single tokens or whole words, and what hides nothing, such as sentence
    pairs. Objectives that hide tokens in a way of their own are evaluated on masked tokens too; so is the generator of
    one that finds replaced tokens, and the model on what it writes there.
    """
    if not config.names:
        return ObjectiveConfig(whole_word=config.whole_word, next_sentence=config.next_sentence)
    kinds = objectives_of(config)
    beside = [name for name, kind in kinds.items() if not kind.hides or kind.finds_replaced]
    hider = () if finds_replaced(config) else ("mlm",)
    return ObjectiveConfig(
        names=(*hider, *beside),
        whole_word=config.whole_word,
        options={name: options for name, options in config.options.items() if name in beside},
    )
