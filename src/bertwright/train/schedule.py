"""Turns how far a run has come into a learning-rate factor and a sequence-length phase.

Progress runs from 0 to 1 in whichever unit the run is measured in: steps, tokens, epochs, or minutes of wall clock. A
run measured in minutes ends annealed at that minute on any machine (the budgeted schedule of Izsak et al., 2021,
"How to Train BERT with an Academic Budget").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator

from bertwright.config import Section

Unit = Literal["minutes", "steps", "tokens", "epochs"]
UNITS: tuple[Unit, ...] = ("minutes", "steps", "tokens", "epochs")


class Phase(Section):
    """One stretch of a run at one sequence length."""

    length: int = Field(ge=8)
    """Tokens a row, special tokens included."""
    rows: int = Field(ge=1)
    """Rows a step (all micro-batches of a step together)."""
    share: float = Field(gt=0, le=1)
    """Share of the run, in the unit the run is measured in."""
    rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate, for phases of more rows than others."""
    causal: bool = False
    """Predict each next token from those before it, in place of what the objectives of the run predict."""


class ScheduleConfig(Section):
    """How long the run is, how the learning rate changes, and which sequence lengths it passes through.

    Exactly one of minutes, steps, tokens and epochs says how long. The published phases are 90% at 128 and 10% at 512.
    """

    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes of the whole training, compilation and evaluation included."""
    steps: int | None = Field(default=None, ge=1)
    """Optimizer steps."""
    tokens: float | None = Field(default=None, gt=0)
    """Tokens seen, padding not counted."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training split."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the run in which the learning rate rises linearly from zero."""
    decay: Literal["linear", "cosine", "one-minus-sqrt"] = "linear"
    """How the learning rate falls."""
    decay_share: float | None = Field(default=None, gt=0, le=1)
    """Share of the run in which it falls; before, it is held at its peak. All after the warm-up where not given."""
    final_rate: float = Field(default=0.0, ge=0, le=1)
    """Where it falls to, as a share of its peak."""
    phases: tuple[Phase, ...] = (Phase(length=128, rows=64, share=0.9), Phase(length=512, rows=16, share=0.1))
    """Sequence-length phases in order; their shares sum to 1."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        given = [unit for unit in UNITS if getattr(self, unit) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of {', '.join(UNITS)} (given: {', '.join(given) or 'none'})")
        if abs(sum(phase.share for phase in self.phases) - 1) > 1e-6:
            raise ValueError("the shares of the phases must sum to 1")
        if self.phases[-1].causal:
            raise ValueError("the last of the phases is causal, and the model would predict no masked word; end masked")
        if self.warmup + (self.decay_share or 0) > 1 + 1e-9:
            raise ValueError("warmup and decay_share are more than the run together; give shares of at most 1")
        return self

    @property
    def unit(self) -> Unit:
        """The unit the run is measured in."""
        return next(unit for unit in UNITS if getattr(self, unit) is not None)

    @property
    def amount(self) -> float:
        """How many of the unit the run lasts."""
        return float(getattr(self, self.unit))

    @property
    def hold_ends(self) -> float | None:
        """Where in [0, 1] of the run the rate begins to fall after it was held; None where it is never held."""
        if self.decay_share is None or 1 - self.decay_share <= self.warmup + 1e-9:
            return None
        return 1 - self.decay_share

    def phase_at(self, progress: float) -> int:
        """Return the index of the phase at `progress` in [0, 1)."""
        end = 0.0
        for index, phase in enumerate(self.phases):
            end += phase.share
            if progress < end - 1e-9:
                return index
        return len(self.phases) - 1

    def start_of(self, phase: int) -> float:
        """Return the progress in [0, 1) at which a phase begins."""
        return sum(earlier.share for earlier in self.phases[:phase])

    def is_causal(self, progress: float) -> bool:
        """Say whether the phase at `progress` in [0, 1] predicts next tokens."""
        return self.phases[self.phase_at(progress)].causal


DECAYS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: 1 - x,
    "cosine": lambda x: (1 + math.cos(math.pi * x)) / 2,
    "one-minus-sqrt": lambda x: 1 - math.sqrt(x),
}
"""Falls from 1 to 0 over x in [0, 1]: as published in 2018; Loshchilov and Hutter (2017); Hägele et al. (2024)."""


def rate_factor(progress: float, schedule: ScheduleConfig) -> float:
    """Return the learning-rate factor in [0, 1]: a linear rise over the warm-up, the peak held, then the decay.

    With the defaults that is the schedule published in 2018 (appendix A.2): warm-up, then linear decay to zero.

    >>> [rate_factor(p, ScheduleConfig(steps=1, warmup=0.5)) for p in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    if progress < schedule.warmup:
        return progress / schedule.warmup
    span = 1 - schedule.warmup if schedule.decay_share is None else schedule.decay_share
    fallen = min(1.0, max(0.0, (progress - (1 - span)) / span))
    return schedule.final_rate + (1 - schedule.final_rate) * DECAYS[schedule.decay](fallen)
