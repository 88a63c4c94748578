"""Turns a run whose loss bursts into one that goes on: back to the last good state, past the batches it met since.

A batch whose loss or gradient is not finite changes nothing and is left out. Where several in a row are so, or the loss
stands far above its running mean for many steps in a row, the weights themselves are broken: the run goes back to the
state it kept in memory (Chowdhery et al., 2022, "PaLM", section 5.1, do so by hand) and draws other batches.

All that is decided by is in the position, and when states are kept follows from the step: a run that was stopped and
resumed goes back when, and where to, one never stopped would have.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from pydantic import Field

from bertwright.config import Section
from bertwright.errors import NotFiniteError, TrainingError
from bertwright.log import note
from bertwright.train.checkpoint.snapshot import Snapshot, TrainState, copy_state, restore
from bertwright.train.divergence import reason_of_divergence
from bertwright.train.loop import StepReport, weight_norm

SETTLED = 50
"""Steps of a phase before its losses are judged: a run begins with the loss of a guess, a phase with longer rows."""
MEMORY = 100
"""Steps that the running mean of the loss remembers."""
STAYS = ("seconds", "setup_seconds", "drawn", "skipped", "stalled", "saved", "first_norm")
"""What of the position does not go back with the weights: time has passed, and batches are behind."""


class GuardConfig(Section):
    """When a run goes back to an earlier state, and when it gives up."""

    every: int = Field(default=50, ge=1)
    """Steps between two states kept in memory to go back to; each replaces the one before. It takes as much memory as
    weights and moments."""
    rise: float = Field(default=1.0, gt=0)
    """How far a loss stands above the running mean to be far above it, in nats."""
    steps: int = Field(default=10, ge=1)
    """Steps in a row with such a loss that send the run back."""
    failures: int = Field(default=3, ge=1)
    """Batches in a row without a finite loss and gradient that send it back."""
    attempts: int = Field(default=3, ge=0)
    """Times a run goes back to the same state before it gives up; 0 keeps no state, and gives up at once."""


@dataclass
class LossSpikeGuard:
    """Watches the losses of what is `moving`, keeps a good state of it, and goes back there.

    `went_back()` is called afterwards: what was told of the steps undone must be untold.
    """

    config: GuardConfig
    moving: TrainState
    good: Snapshot | None = None
    went_back: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        """Keep the state the run starts from, unless it was given."""
        if self.good is None and self.config.attempts:
            self.good = copy_state(self.moving)

    def __call__(self, report: StepReport) -> None:
        """Keep the state if it is time, and if nothing is wrong with it; stands before whoever writes it down."""
        position = report.position
        if self.good is not None and position.step % self.config.every == 0 and not position.above:
            ruined = reason_of_divergence(weight_norm(self.moving.model), [], position)
            if ruined:
                self._go_back(ruined)
                return
            position.attempts = 0
            began = time.perf_counter()
            self.good = copy_state(self.moving)
            position.stalled += time.perf_counter() - began

    def failed(self, error: NotFiniteError) -> None:
        """Hear that the step changed nothing because its loss or gradient was not finite.

        Raises `error` where no state is kept, and TrainingError where going back did not help.
        """
        if self.good is None:
            raise error
        position = self.moving.position
        position.skipped += 1
        position.failed += 1
        if position.failed < self.config.failures:
            note(f"{error.happened}: its batch is left out")
        else:
            self._go_back(f"{error.happened}, {position.failed} batches in a row")

    def broken(self, error: NotFiniteError) -> None:
        """Hear that the last step left weights that are no numbers: go back, or raise as `failed` does."""
        if self.good is None:
            raise error
        self._go_back(error.happened)

    def passed(self, loss: float, *, phase: int) -> bool:
        """Hear the loss of a step just made in a phase; return whether the step stands, or was undone."""
        position = self.moving.position
        position.failed = 0
        if position.judged_phase != phase:
            position.judged_phase, position.judged, position.above = phase, 0, 0
        if position.judged >= SETTLED and loss > position.mean_loss + self.config.rise:
            position.above += 1
            if position.above < self.config.steps or self.good is None:
                return True
            self._go_back(
                f"at step {position.step} the loss is {loss:.2f}, and for {position.above} steps was more than "
                f"{self.config.rise:g} above its mean of {position.mean_loss:.2f}"
            )
            return False
        position.above = 0
        position.judged += 1
        position.mean_loss += (loss - position.mean_loss) / min(position.judged, MEMORY)
        return True

    def _go_back(self, happened: str) -> None:
        """Put the good state back, but for what has passed for good; raise TrainingError if that was tried enough."""
        position, good = self.moving.position, self.good
        assert good is not None
        stays = {name: getattr(position, name) for name in STAYS}
        undone, attempts = position.step - good.step, position.attempts + 1
        restore(self.moving, good)
        position.become({**stays, "skipped": stays["skipped"] + undone, "attempts": attempts})
        self.went_back()
        if attempts > self.config.attempts:
            position.attempts = 0
        self.good = replace(good, told={**good.told, "position": asdict(position)})
        if attempts > self.config.attempts:
            raise TrainingError(
                f"{happened}; so it was after going back to step {good.step} {self.config.attempts} times: "
                "lower --learning-rate or lengthen --warmup"
            )
        note(f"{happened}: back to step {good.step}, attempt {attempts} of {self.config.attempts}, with other batches")
