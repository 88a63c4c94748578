"""Holds what of a run changes from step to step: weights, optimizers, progress, what callbacks remember: a checkpoint.

"position" in the position.json of a checkpoint holds every figure of it in one flat object, whoever it belongs to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from bertwright.train.ema import EMA
from bertwright.train.schedule import ScheduleConfig

if TYPE_CHECKING:
    from bertwright.train.callbacks.base import Callback
    from bertwright.train.callbacks.best import BestCallback

POSITION: dict[str, Any] = {
    "step": 0, "tokens": 0, "epochs": 0.0, "seconds": 0.0, "setup_seconds": 0.0, "drawn": [], "window": {},
    "phase": 0, "rate_factor": 0.0, "heard": True,
    "skipped": 0, "failed": 0, "judged_phase": 0, "judged": 0, "mean_loss": 0.0, "above": 0, "attempts": 0,
    "stalled": 0.0, "saved": 0, "first_loss": 0.0, "first_norm": 0.0,
    "loss_scale": 65536.0, "scale_steps": 0, "overflows": 0,
}  # fmt: skip
"""Every figure of "position" in position.json, as it is when a run begins: of the progress, the window of metrics, the
last step, the guard, checkpoints, divergence and the loss scale."""
FIRST_SCALE, LEAST_SCALE = POSITION["loss_scale"], 1.0
SCALE_LASTS = 2000
"""Steps after which the loss scale is doubled."""


class Saved:
    """Something with fields that a checkpoint holds."""

    SAVED: ClassVar[Mapping[str, str]] = {}
    """Its fields, and their names in "position"."""

    def state(self) -> dict[str, Any]:
        """Return a copy of these fields, by their names in "position"."""
        return {name: deepcopy(getattr(self, ours)) for ours, name in self.SAVED.items()}

    def restore(self, position: Mapping[str, Any]) -> None:
        """Take over those of these fields that `position` holds."""
        for ours, name in self.SAVED.items():
            if name in position:
                setattr(self, ours, deepcopy(position[name]))


@dataclass
class Progress(Saved):
    """How far a run has come. No random state: every random number comes from a seed and these counts, see rng.py."""

    SAVED: ClassVar[Mapping[str, str]] = {
        name: name for name in ("step", "tokens", "epochs", "seconds", "setup_seconds", "drawn")
    }

    step: int = 0
    """Optimizer steps done."""
    tokens: int = 0
    """Tokens seen, padding not counted."""
    epochs: float = 0.0
    """Passes over the training split, counted in rows."""
    seconds: float = 0.0
    """Wall clock spent training, over all sessions of the run."""
    setup_seconds: float = 0.0
    """Part of it spent before the first step (compilation): inside the minutes of a run, outside its schedule."""
    drawn: list[int] = field(default_factory=list)
    """Micro-batches drawn in each phase."""

    def fraction(self, schedule: ScheduleConfig) -> float:
        """Return how much of the run is done, in [0, 1]."""
        if schedule.unit == "minutes":
            budget = schedule.amount * 60 - self.setup_seconds
            return min(1.0, (self.seconds - self.setup_seconds) / budget) if budget > 0 else 1.0
        used = {"steps": self.step, "tokens": self.tokens, "epochs": self.epochs}
        return min(1.0, float(used[schedule.unit]) / schedule.amount)


@dataclass
class LossScale(Saved):
    """What a loss is multiplied by in float16, below whose smallest numbers gradients would lie.

    A power of two, so that it changes no bit of what fits. Halved where gradients do not fit any more, and doubled
    after SCALE_LASTS steps in which they did (Micikevicius et al., 2018, "Mixed Precision Training", section 3.2).
    """

    SAVED: ClassVar[Mapping[str, str]] = {"value": "loss_scale", "steps": "scale_steps", "overflows": "overflows"}

    value: float = FIRST_SCALE
    steps: int = 0
    """Steps since it changed."""
    overflows: int = 0
    """Times it was halved."""

    @property
    def can_fall(self) -> bool:
        """Whether it is not at its least."""
        return self.value > LEAST_SCALE

    def restore(self, position: Mapping[str, Any]) -> None:
        """Take it over from a position; raises TypeError where nothing can be multiplied by what stands there."""
        super().restore(position)
        if not 0 < self.value < math.inf:
            raise TypeError(f"a loss scale cannot be {self.value}")

    def fall(self) -> None:
        """Halve it."""
        self.value, self.steps, self.overflows = self.value / 2, 0, self.overflows + 1

    def count(self) -> None:
        """Count a step whose gradients fitted; double it where it is time."""
        self.steps += 1
        if self.steps == SCALE_LASTS:
            self.value, self.steps = self.value * 2, 0

    def __str__(self) -> str:
        """Return it as a whole number."""
        return f"{self.value:,.0f}"


@dataclass
class TrainState(Saved):
    """What of a run changes: all that a checkpoint holds."""

    SAVED: ClassVar[Mapping[str, str]] = {
        "stalled": "stalled", "phase": "phase", "rate_factor": "rate_factor", "callbacks_done": "heard"
    }  # fmt: skip

    model: nn.Module
    """All that is trained."""
    optimizers: list[torch.optim.Optimizer]
    progress: Progress
    average: EMA | None = None
    scale: LossScale = field(default_factory=LossScale)
    """Of the loss, where a run computes in float16."""
    best: BestCallback | None = None
    """What keeps the weights of the best evaluation, where a run does so."""
    stalled: float = 0.0
    """Seconds that steps waited for copies of the state, over all sessions of the run."""
    phase: int = 0
    """Phase of the last step, counted from 0."""
    rate_factor: float = 0.0
    """Factor on the learning rate in the last step."""
    callbacks_done: bool = True
    """Whether the callbacks were done with the last step; not where a stop was requested while they evaluated."""
    callbacks: Sequence[Callback] = ()
    """Those of the run, once it has begun."""
    _read: dict[str, Any] = field(default_factory=lambda: deepcopy(POSITION), init=False)
    """The position that was read last, for callbacks that come later."""

    def attach(self, callbacks: Sequence[Callback]) -> None:
        """Have the state of `callbacks` saved from now on, and give them back what a checkpoint held of it."""
        self.callbacks = callbacks
        for callback in callbacks:
            callback.restore(self._read)

    def position(self) -> dict[str, Any]:
        """Return a copy of every figure but tensors, as "position" in position.json has them."""
        position = deepcopy(self._read)
        for part in (self, self.progress, self.scale, *self.callbacks):
            position |= part.state()
        return position

    def restore_position(self, position: Mapping[str, Any]) -> None:
        """Take over the figures of a position; raises TypeError where it holds what no position does."""
        check_position(position)
        self._read = {**self._read, **deepcopy(dict(position))}
        for part in (self, self.progress, self.scale, *self.callbacks):
            part.restore(position)

    @contextmanager
    def stalling(self) -> Iterator[None]:
        """Count how long a copy of the state holds up the next step."""
        began = time.perf_counter()
        yield
        self.stalled += time.perf_counter() - began


def check_position(position: Mapping[str, Any]) -> None:
    """Raise TypeError where a position names a figure that none has, or gives one a value of another kind."""
    for name, value in position.items():
        if name not in POSITION:
            raise TypeError(f"a position has no {name}")
        if not fits(value, type(POSITION[name])):
            raise TypeError(f"the {name} of a position cannot be {str(value)[:50]!r}")


def fits(value: object, kind: type) -> bool:
    """Say whether a value of JSON can stand for a count (int), a figure (float), a list of counts, or named figures."""
    if kind is list:
        return isinstance(value, list) and all(fits(one, int) for one in value)
    if kind is dict:
        return isinstance(value, dict) and all(fits(one, float) for one in value.values())
    if kind is float:
        return isinstance(value, (int, float))
    return isinstance(value, kind) and (kind is not int or 0 <= value < 2**63)  # type: ignore[operator]
