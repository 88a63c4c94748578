"""Holds what a run may set of its objectives, and which ones those settings mean."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from bertwright.config import Section


class MaskPhase(Section):
    """One stretch of a run with a mask rate of its own."""

    rate: float = Field(gt=0.0, lt=1.0)
    """Fraction of a row's tokens that are masked."""
    share: float = Field(gt=0.0, le=1.0)
    """Share of the run, in the unit the run is measured in."""


class ObjectiveConfig(Section):
    """What a run is trained on."""

    names: tuple[str, ...] = ()
    """Objectives whose losses are added up, such as mlm and nsp; by next_sentence where not given: mlm, or both."""
    mask_rate: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Fraction of a row's tokens that are masked."""
    final_mask_rate: float | None = Field(default=None, gt=0.0, lt=1.0)
    """That fraction at the end of the run, reached linearly; the same throughout where not given. Held-out text is
    masked at 15% whatever both are."""
    mask_phases: tuple[MaskPhase, ...] = ()
    """That fraction in stretches of the run, in place of mask_rate and final_mask_rate: in order, their shares sum to
    1. Sequence lengths change in phases of their own (schedule.phases)."""
    whole_word: bool = False
    """Ask about whole words instead of single tokens."""
    next_sentence: bool = True
    """Train on sentence pairs with next sentence prediction beside masking."""
    mask_share: float = Field(default=0.8, ge=0.0, le=1.0)
    """Of the masked tokens, the fraction replaced by [MASK]."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Of the masked tokens, the fraction replaced by a random token; the rest is left as it is."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of single objectives, by their names: objective.options.NAME.FIELD."""

    @model_validator(mode="after")
    def _check_shares(self) -> ObjectiveConfig:
        if self.mask_share + self.random_share > 1.0 + 1e-9:
            raise ValueError("mask_share and random_share add up to more than 1; give shares of at most 1 together")
        if self.mask_phases and abs(sum(phase.share for phase in self.mask_phases) - 1) > 1e-6:
            raise ValueError("the shares of mask_phases must sum to 1")
        return self

    @property
    def chosen(self) -> tuple[str, ...]:
        """The names of the objectives."""
        return self.names or (("mlm", "nsp") if self.next_sentence else ("mlm",))
