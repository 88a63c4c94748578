"""Turns reports into checkpoints every few minutes or steps, and a signal into a checkpoint and a clean stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar

from bertwright.stopping import STOPPING, on_signals, stopped_by
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.checkpoint.folder import BEFORE_DECAY
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.parallel.group import ALONE, Group
from bertwright.train.state import TrainState

T = TypeVar("T")
FIRST_SECONDS = 60.0
"""Seconds of training before the first checkpoint of a run, at most."""


class StopRequestedError(Exception):
    """Leaves an evaluation half done, because a stop was requested; never seen outside a run."""


@dataclass
class CheckpointCallback(Callback):
    """Saves every `minutes` (and every `steps`, where given), before stopping on a signal, and `at_end`.

    The first checkpoint of a run comes after FIRST_SECONDS at the latest. Without `at_end` the last step is saved where
    more than that would be lost, and where a stop was requested: what follows it, such as predicting a test set, takes
    its time. Where `best` is given, it also saves whenever the figure that `held_out` takes from an evaluation is lower
    than ever, `best` being the lowest so far. Where `hold_ends` says at which fraction of the run its rate begins to
    fall, the state there is kept for good. Stands last: a checkpoint holds what others made of the step.
    """

    saver: Saver
    minutes: float
    steps: int | None = None
    at_end: bool = True
    group: Group = ALONE
    """The processes of the run: all save at the same step, whichever got the signal."""
    held_out: Callable[[Mapping[str, float]], float] | None = None
    best: float | None = None
    hold_ends: float | None = None
    decaying: bool = field(default=True, init=False)
    """Whether the state before the rate falls is behind, or is never kept."""
    signal: int | None = field(default=None, init=False)
    """The signal to stop that this process got. Only a signal sets it: one may come at any instant."""
    saved_at: float = field(default_factory=time.perf_counter, init=False)

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Find out whether the rate falls already."""
        self.decaying = self.hold_ends is None or fraction >= self.hold_ends

    def on_step(self, report: StepReport) -> None:
        """Save if it is time; raise Interrupted after saving if a stop was requested."""
        if not self.decaying and self.hold_ends is not None and report.fraction >= self.hold_ends:
            self.decaying = True
            self.saver.save(name=BEFORE_DECAY)
        step, valid = report.progress.step, report.notes.get("valid")
        loss = self.held_out(valid) if valid and self.held_out is not None else None
        wait = self.minutes * 60 if self.saver.saved else min(FIRST_SECONDS, self.minutes * 60)
        waited = time.perf_counter() - self.saved_at
        due = waited >= wait and not self.saver.busy
        due = due or (report.last and (self.at_end or waited >= FIRST_SECONDS))
        due = due or (self.steps is not None and step > 0 and step % self.steps == 0)
        due = due or (self.best is not None and loss is not None and loss < self.best)
        due, stop = self._agreed(due)
        if due or stop is not None:
            self.best = loss if self.best is not None and loss is not None and loss < self.best else self.best
            self.saver.save(held_out=loss)
            self.saved_at = time.perf_counter()
        if stop is not None and not (report.last and self.at_end):
            self._leave(step, stop)

    def _agreed(self, due: bool) -> tuple[bool, int | None]:
        """Return whether any process finds a checkpoint due, and the signal any was sent; all get what went wrong."""
        signals = {str(number): float(self.signal == number) for number in STOPPING}
        sums = self.group.total({"due": due, "failed": self.saver.failed} | signals)
        if sums["failed"]:
            self.saver.wait()
        return sums["due"] > 0, next((number for number in STOPPING if sums[str(number)]), None)

    def state(self) -> dict[str, Any]:
        """Return how many checkpoints were begun, and how long steps waited for copies of the state."""
        return self.saver.state()

    def restore(self, position: Mapping[str, Any]) -> None:
        """Go on counting from there."""
        self.saver.restore(position)

    def until_stopped(self, values: Iterable[T]) -> Iterator[T]:
        """Yield `values`, and raise StopRequestedError instead of the next one when a stop was requested."""
        for value in values:
            if self.signal is not None:
                raise StopRequestedError
            yield value

    def _leave(self, step: int, number: int | None) -> NoReturn:
        raise stopped_by(
            number,
            f"stopped at step {step}; everything is saved in {self.saver.wait()}; "
            "the same command with --resume goes on from there",
        )

    @contextmanager
    def listening_for_signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C, SIGTERM or SIGHUP into a stop after the current step; see `on_signals`.

        A step whose evaluation was left half done is saved, and evaluated again when the run goes on.
        """
        self.saved_at = time.perf_counter()
        with on_signals(STOPPING, self._request_stop):
            try:
                yield
            except StopRequestedError:
                state = self.saver.train_state
                state.callbacks_done = False
                self.saver.save()
                self._leave(state.progress.step, self.signal)

    def _request_stop(self, number: int) -> None:
        self.signal = number
