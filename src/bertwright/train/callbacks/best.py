"""Keeps the weights of the best evaluation so far, and says when to stop waiting for a better one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bertwright.errors import DivergedError
from bertwright.log import note
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.host_copies import Arrival, host_copy


@dataclass
class BestCallback(Callback):
    """Copies the trained weights whenever the held-out figure `metric` is better than ever; stands after evaluation.

    Where it is as good as before, as F1 of zero is at first, a lower loss is better.

    They are those that are trained when it is made. `sign` is 1 where larger is better and -1 where smaller is;
    `patience` is how many evaluations in a row may be no better before the run is `exhausted`, None for no end of it.
    """

    model: nn.Module
    metric: str
    sign: int = 1
    patience: int | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """The held-out figures of the best evaluation."""
    step: int = 0
    waited: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)
    """Those, in the memory of the host."""

    def __post_init__(self) -> None:
        """Remember what is trained: gradual unfreezing may hold some of it back for a while."""
        self._trained = [name for name, parameter in self.model.named_parameters() if parameter.requires_grad]

    def on_step(self, report: StepReport) -> None:
        """Compare, if there was an evaluation."""
        valid: dict[str, float] | None = report.notes.get("valid")
        if valid is None:
            return
        if "diverged" in report.notes:  # such weights can have figures: always the same class is right at times
            self.waited += 1
            return
        before = self._rank(self.figures) if self.figures else (-math.inf, -math.inf)
        if self._rank(valid) > before:  # never so where a figure is not a number
            self.figures, self.step, self.waited = valid, report.progress.step, 0
            parameters = dict(self.model.named_parameters())
            self.weights = {name: host_copy(parameters[name]) for name in self._trained}
            Arrival.mark(parameters[self._trained[0]].device).wait()
        else:
            self.waited += 1

    def _rank(self, figures: dict[str, float]) -> tuple[float, float]:
        """Return what is larger where figures are better: of equal ones, those with the lower loss."""
        return self.sign * figures[self.metric], -figures.get("loss", 0.0)

    @property
    def exhausted(self) -> bool:
        """Whether the patience is at an end."""
        return self.patience is not None and self.waited >= self.patience

    @torch.no_grad()
    def load_best(self) -> None:
        """Put the best weights back into the model."""
        parameters = dict(self.model.named_parameters())
        for name, weights in self.weights.items():
            parameters[name].copy_(weights)


@dataclass
class EarlyStop(Callback):
    """Ends the run where the patience of `best` is at an end; stands last."""

    best: BestCallback

    def on_step(self, report: StepReport) -> None:
        """End the run, if it is time; raises DivergedError where it has diverged."""
        if not self.best.exhausted:
            return
        if "diverged" in report.notes:
            raise DivergedError(f"the run diverged: {report.notes['diverged']}")
        step, waited = report.progress.step, self.best.waited
        note(f"stopped at step {step:,}: {waited} evaluations without a better {self.best.metric}")
        report.stop = True
