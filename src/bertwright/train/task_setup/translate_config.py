"""Turns the flags of `bertwright finetune translate` into one resolved tree of settings.

Label smoothing 0.1 and beam search with 4 texts: Vaswani et al. (2017, sections 5.4 and 6.1). The learning rate is that
of the best of three short runs on Multi30k at 128 units (150 steps of random weights: 1e-3, 3e-3 and 6e-3 end at 5.22,
4.53 and 4.81 nats a token on dev), and near the published ones at 768 (Rothe et al. 2020: 5e-5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field

from bertwright.config import Section, compose
from bertwright.errors import ConfigError
from bertwright.tasks.translation.reader import SidesConfig
from bertwright.train.task_setup.finetune_config import BatchConfig, FinetuneConfig, SpanConfig

RATE, WIDTH = 1e-4, 768
"""Learning rate of so many units; others get it by the square of the width: 9e-4 at 256, 3.6e-3 at 128."""
KNOWN_TRANSFER = {"freeze", "dropout"}


class PairBatchConfig(BatchConfig):
    """How pairs make a step."""

    rows: int = Field(default=64, ge=1)
    """Pairs a step."""
    max_length: int = Field(default=256, ge=8)
    """Longest row in tokens on either side, [CLS] and [SEP] included; at most the model's positions."""


class PairSpanConfig(SpanConfig):
    """How long the run is, and how the learning rate moves: up from zero, then linearly down to it."""

    epochs: float = Field(default=10.0, gt=0)
    """Passes over the training pairs; with `minutes`, the evaluations on dev alone are spread as over so many."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes of training, evaluation along the way included, instead of a number of passes."""


class WritingConfig(SidesConfig):
    """Which side is which, what the decoder starts from, and how it writes."""

    start: Literal["both", "encoder", "neither"] = "both"
    """What starts from pre-trained weights: encoder and decoder, the encoder alone, or neither of them."""
    decoder_layers: int | None = Field(default=None, ge=1)
    """Blocks of the decoder, evenly spaced ones of the pre-trained model; as many as that has where not given."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the probability of each true token that is spread over the vocabulary in training."""
    beams: int = Field(default=4, ge=1)
    """Texts kept for each source while a translation is searched for; 1 takes the likeliest token each time."""
    length_penalty: float = 1.0
    """A text of n tokens scores its log probability / n to this power: 0 favours short ones."""
    longest: int | None = Field(default=None, ge=2)
    """Most tokens of a translation; one and a half times those of the longest training target where not given."""


class TranslateConfig(FinetuneConfig):
    """Everything a translation run is made of, resolved."""

    batches: PairBatchConfig = PairBatchConfig()
    schedule: PairSpanConfig = PairSpanConfig()
    translate: WritingConfig = WritingConfig()

    def fitted(self, *, width: int, positions: int, faster: float = 1.0) -> Self:
        """Return the settings for a model of `width` units and so many positions."""
        fitted = super().fitted(width=width, positions=positions, faster=faster)
        if "learning_rate" in self.optimizer.model_fields_set:
            return fitted
        optimizer = self.optimizer.model_copy(update={"learning_rate": RATE * (WIDTH / width) ** 2 * faster})
        return fitted.model_copy(update={"optimizer": optimizer})


def resolve_translation(settings: Mapping[str, Any]) -> TranslateConfig:
    """Return the defaults with `settings` laid over them; raises ConfigError, also for what other tasks alone know."""
    config = compose(TranslateConfig, {"task": "translate", **settings})
    config.transfer.refuse_all_but(KNOWN_TRANSFER, task="translate")
    config.head.refuse("multi_label", "class_weights", "crf", "positive", task="translate")
    compose(Section, config.options)  # there are none
    if config.engine.compile:
        raise ConfigError("engine.compile: steps of translate do not run compiled; leave it out")
    if config.columns.names():
        raise ConfigError("columns: translate calls its two columns --source and --target")
    return config
