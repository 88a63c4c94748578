"""Turns a run whose loss bursts into one that goes on: back to the last good state, past the batches it met since.

A batch whose loss or gradient is not finite changes nothing and is left out. Where several in a row are so, or the loss
stands far above its running mean for many steps in a row, the weights themselves are broken: the run goes back to the
state it kept in memory (Chowdhery et al., 2022, "PaLM", section 5.1, do so by hand) and draws other batches.

All that is decided by is in checkpoints, and when states are kept follows from the step: a run that was stopped and
resumed goes back when, and where to, one never stopped would have.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from pydantic import Field

from bertwright.config import Section
from bertwright.errors import NotFiniteError, TrainingError
from bertwright.log import note
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.callbacks.divergence import DivergenceCallback
from bertwright.train.checkpoint.snapshot import Snapshot, copy_state, restore
from bertwright.train.loop import weight_norm
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.state import TrainState

SETTLED = 50
"""Steps of a phase before its losses count: a run begins with the loss of a guess, a phase with longer rows."""
MEMORY = 100
"""Steps that the running mean of the loss remembers."""
STAYS = ("seconds", "setup_seconds", "drawn", "skipped", "stalled", "saved", "first_norm", "loss_scale", "overflows")
"""Figures of a position that do not go back with the weights: time has passed, and batches are behind."""


class GuardConfig(Section):
    """When a run goes back to an earlier state, and when it gives up."""

    every: int = Field(default=50, ge=1)
    """Steps between two states kept in memory to go back to; each replaces the one before. It takes as much memory as
    weights and moments, of a run on a GPU that of the host."""
    rise: float = Field(default=1.0, gt=0)
    """How far a loss stands above the running mean to be far above it, in nats."""
    steps: int = Field(default=10, ge=1)
    """Steps in a row with such a loss that send the run back."""
    failures: int = Field(default=3, ge=1)
    """Batches in a row without a finite loss and gradient that send it back."""
    attempts: int = Field(default=3, ge=0)
    """Times a run goes back to the same state before it gives up; 0 keeps no state, and gives up at once."""


@dataclass
class LossSpikeGuard(Callback):
    """Watches the losses of a run, keeps a good state of it, and goes back there.

    Stands before the callback that writes checkpoints.
    """

    SAVED: ClassVar[Mapping[str, str]] = {
        "skipped": "skipped",
        "failures": "failed",
        "phase": "judged_phase",
        "count": "judged",
        "mean_loss": "mean_loss",
        "spike_count": "above",
        "attempts": "attempts",
    }

    config: GuardConfig
    train_state: TrainState
    schedule: ScheduleConfig
    divergence: DivergenceCallback
    good: Snapshot | None = None
    """The state to go back to; None where none is kept."""
    skipped: int = 0
    """Steps whose batches were left out: they failed, or were undone."""
    failures: int = 0
    """Batches in a row that failed."""
    phase: int = 0
    """The phase that the losses are of."""
    count: int = 0
    """Losses of it that the running mean holds."""
    mean_loss: float = 0.0
    """The running mean of the loss."""
    spike_count: int = 0
    """Losses in a row far above it."""
    attempts: int = 0
    """Times the run has gone back to the state it would go back to now."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Keep the state the run starts from, unless one is kept already."""
        if self.good is None and self.config.attempts:
            self.good = copy_state(state)

    def on_step(self, report: StepReport) -> None:
        """Keep the state if it is time, and if nothing is wrong with it."""
        if self.good is None or report.progress.step % self.config.every or self.spike_count:
            return
        ruined = self.divergence.reason(weight_norm(self.train_state.model), [], step=report.progress.step)
        if ruined:
            self._go_back(ruined)
            report.changed = True
            return
        self.attempts = 0
        with self.train_state.stalling():
            self.good = copy_state(self.train_state)

    def failed(self, error: NotFiniteError) -> None:
        """Leave out the batch of a step that changed nothing because its loss or gradient was not finite.

        Raises `error` where no state is kept, and TrainingError where going back did not help.
        """
        if self.good is None:
            raise error
        self.skipped += 1
        self.failures += 1
        if self.failures < self.config.failures:
            note(f"{error.happened}: its batch is left out")
        else:
            self._go_back(f"{error.happened}, {self.failures} batches in a row")

    def broken(self, error: NotFiniteError) -> None:
        """Go back because the last step left weights that are not finite, or raise as `failed` does."""
        if self.good is None:
            raise error
        self._go_back(error.happened)

    def passed(self, loss: float, *, phase: int) -> bool:
        """Return whether a step just made in a phase, with that loss, stands; where not, it was undone."""
        self.failures = 0
        if self.phase != phase:
            self.phase, self.count, self.spike_count = phase, 0, 0
        if self.count >= SETTLED and loss > self.mean_loss + self.config.rise:
            self.spike_count += 1
            if self.spike_count < self.config.steps or self.good is None:
                return True
            self._go_back(
                f"at step {self.train_state.progress.step} the loss is {loss:.2f}, and for {self.spike_count} steps "
                f"was more than {self.config.rise:g} above its mean of {self.mean_loss:.2f}"
            )
            return False
        self.spike_count = 0
        self.count += 1
        self.mean_loss += (loss - self.mean_loss) / min(self.count, MEMORY)
        return True

    def _go_back(self, happened: str) -> None:
        """Restore the good state, but for what has passed for good; raise TrainingError if that was tried enough."""
        state, good = self.train_state, self.good
        assert good is not None
        position, attempts = state.position(), self.attempts + 1
        undone = position["step"] - good.step
        restore(state, good)
        stays = {name: position[name] for name in STAYS}
        state.restore_position({**stays, "skipped": position["skipped"] + undone, "attempts": attempts, "heard": True})
        for callback in state.callbacks:
            callback.on_begin(state, state.progress.fraction(self.schedule))
        if attempts > self.config.attempts:
            self.attempts = 0
        self.good = replace(good, facts={**good.facts, "position": state.position()})
        if attempts > self.config.attempts:
            raise TrainingError(
                f"{happened}; so it was after going back to step {good.step} {self.config.attempts} times: "
                "lower --learning-rate or lengthen --warmup"
            )
        note(f"{happened}: back to step {good.step}, attempt {attempts} of {self.config.attempts}, with other batches")
