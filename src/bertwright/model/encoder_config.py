"""Holds what of an encoder a run may set, and turns it and a named size into the shape of a model."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bertwright.config import Section, compose
from bertwright.errors import ConfigError
from bertwright.model.build import ARCHITECTURES, named_size
from bertwright.model.config import ModelConfig

WITH_POSITIONS = ("bert", "electra")
"""Architectures whose learned positions can be started as sinusoids."""
STARTED = ("bert", "modern")
"""Architectures whose first weights can be made from the corpus; see model/init/."""
DROPOUTS = ("dropout", "attention_dropout")
"""Settings of a model that are about training: a run may have others than the model it goes on from."""


class EncoderConfig(Section):
    """What of the model a run may set; its size and the vocabulary give the rest."""

    architecture: str = "bert"
    """bert (as published in 2018), modern (ModernBERT: LayerNorm first, rotary positions, gated inner layer), roberta,
    xlm-roberta, camembert, electra, distilbert or deberta (version 3)."""
    layers: int | None = Field(default=None, ge=1)
    """Transformer blocks; those of the size where not given."""
    hidden_size: int | None = Field(default=None, ge=1)
    """Width of the hidden states; that of the size where not given. The inner layer keeps its proportion to it."""
    heads: int | None = Field(default=None, ge=1)
    """Attention heads of a block; of 64 units each where not given."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on hidden units; as published where not given (bert 0.1, modern 0)."""
    attention_dropout: float | None = Field(default=None, ge=0, lt=1)
    """Dropout on attention probabilities; as published where not given (bert 0.1, modern 0)."""
    max_positions: int = Field(default=512, ge=8)
    """Longest sequence the model will ever read."""
    init: Literal["noise", "cooccurrence"] = "noise"
    """noise (drawn, as published), or cooccurrence: put in place from which words stand near which in the corpus, so
    that the model predicts masked words (and bert next sentences) before the first step."""
    sinusoidal_start: bool = False
    """Start bert's learned position embeddings as sinusoids instead of noise: neighbours are found much sooner."""
    neighbour_start: bool = False
    """Start word embeddings from which words stand near which in the corpus, instead of noise: seconds before the first
    step that save a short run most of its way."""
    new_vectors: Literal["mean", "neighbours"] = "mean"
    """What new tokens begin from where a run goes on from a model with another vocabulary (prepare --extend-vocab, or
    --new-tokenizer): the mean of the old tokens of their text, or a weighted mean of kept words that are their
    neighbours in the data, as in FOCUS."""
    global_every: int | None = Field(default=None, ge=1)
    """Every which block of modern attends to the whole row, the others to 128 tokens around; 1 (all) where not
    given."""

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            raise ValueError(f"no architecture is called {name!r}; known: {', '.join(ARCHITECTURES)}")
        return name

    @model_validator(mode="after")
    def _fits_architecture(self) -> EncoderConfig:
        if self.global_every is not None and "global_every" not in self._fields:
            raise ValueError("global_every belongs to architecture 'modern'; bert's blocks all attend to the whole row")
        if self.init == "cooccurrence" and (self.sinusoidal_start or self.neighbour_start):
            raise ValueError(
                "init 'cooccurrence' sets positions and words itself; leave out sinusoidal_start and neighbour_start"
            )
        if self.architecture not in WITH_POSITIONS and self.sinusoidal_start:
            raise ValueError(
                f"sinusoidal_start belongs to architectures {' and '.join(WITH_POSITIONS)}; leave it out for "
                f"{self.architecture}"
            )
        if self.init == "cooccurrence" and self.architecture not in STARTED:
            raise ValueError(
                f"init 'cooccurrence' is made for {' and '.join(STARTED)}, not for {self.architecture}; give 'noise'"
            )
        return self

    @property
    def _fields(self) -> Container[str]:
        """The settings of the architecture's shape."""
        return ARCHITECTURES[self.architecture].config_type.model_fields

    def shape(
        self,
        size: str,
        *,
        vocab_size: int,
        pad_token_id: int,
        next_sentence: bool = False,
        discriminator: bool = False,
    ) -> ModelConfig:
        """Return the shape of a model of a named size with these settings; bert has a next-sentence head anyway.

        A `discriminator` has a head that finds replaced tokens, where the architecture knows such.
        """
        given = self.model_dump(
            exclude={"architecture", "init", "sinusoidal_start", "neighbour_start", "new_vectors"}, exclude_none=True
        )
        if "next_sentence" in self._fields:
            given["next_sentence"] = next_sentence
        if "discriminator" in self._fields:
            given["discriminator"] = discriminator
        given |= self._proportions(size)
        return named_size(
            size, architecture=self.architecture, vocab_size=vocab_size, pad_token_id=pad_token_id, **given
        )

    def shape_from(self, shape: Mapping[str, Any], *, next_sentence: bool) -> ModelConfig:
        """Return the shape of another model of this architecture, by its settings, with the dropout of this run.

        It is one with a masked-token head: what was the discriminator of an ELECTRA is no longer one.
        """
        given = {name: value for name in DROPOUTS if (value := getattr(self, name)) is not None}
        heads = {"next_sentence": next_sentence, "discriminator": False}
        given |= {name: value for name, value in heads.items() if name in self._fields}
        return compose(ARCHITECTURES[self.architecture].config_type, {**shape, **given})

    def _proportions(self, size: str) -> dict[str, int]:
        """Return heads and inner layer of a width other than that of the size; raises ConfigError where none fit."""
        sizes = ARCHITECTURES[self.architecture].config_type.sizes
        if size not in sizes or (self.hidden_size is None and self.heads is None):
            return {}
        _, usual_width, usual_heads, inner = sizes[size]
        width = self.hidden_size or usual_width
        heads = self.heads or width // (usual_width // usual_heads)
        units = width // heads if heads else 0
        if not heads or width % heads or (self.architecture == "modern" and units % 2):
            even = " of an even number of units" if self.architecture == "modern" else ""
            raise ConfigError(
                f"model: a width of {width} does not divide into {heads or 1} heads{even}; give --width a multiple of "
                f"{usual_width // usual_heads}, or --heads a number that divides it"
            )
        return {"heads": heads, "intermediate_size": max(1, width * inner // usual_width)}
