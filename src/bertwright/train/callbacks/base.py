"""What a callback is: something that is called when a run begins and after each of its steps, and does one thing then.

They are called in the order they are listed. One may leave figures in `report.notes` for those after it: evaluation
leaves "valid" and "samples", and the metrics file writes them down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from bertwright.train.state import Progress, Saved, TrainState


@dataclass
class StepReport:
    """What a step did.

    progress     how far the run is after it
    fraction     how much of the run is done, in [0, 1]
    phase        its phase, counted from 0
    rate_factor  its factor on the learning rate
    last         whether it was the last step of the run
    sums         its loss parts, summed, and its steps (1), tokens, places for tokens, flops, seconds, and those of
                 them spent waiting for data; empty where they are counted already: of a step that is reported again
    notes        what callbacks leave for those after them
    changed      set by a callback that changed what the next step is computed from: the weights, or which are trained
    stop         set by a callback: the run ends when all are done with this step
    """

    progress: Progress
    fraction: float
    phase: int
    rate_factor: float
    last: bool
    sums: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    changed: bool = False
    stop: bool = False


class Callback(Saved):
    """Something that is called along a run; each kind does what it is for in one of these, and nothing in the other."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Prepare for steps from `state` on, `fraction` of the run: it begins, goes on, or went back to there."""

    def on_step(self, report: StepReport) -> None:
        """Do what there is to do after a step."""
