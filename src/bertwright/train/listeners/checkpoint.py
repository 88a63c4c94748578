"""Turns reports into checkpoints every few minutes or steps, and a signal into a checkpoint and a clean stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from bertwright.errors import Interrupted
from bertwright.train.distributed import ALONE, Group
from bertwright.train.loop import StepReport


@dataclass
class CheckpointListener:
    """Calls `save()` every `minutes` (and every `steps`, where given), before stopping on a signal, and `at_end`."""

    save: Callable[[], Path]
    minutes: float
    steps: int | None = None
    at_end: bool = True
    group: Group = ALONE
    """The processes of the run: all save at the same step, whichever was asked to stop."""
    asked_to_stop: bool = field(default=False)
    saved_at: float = field(default_factory=time.perf_counter)

    def __call__(self, report: StepReport) -> None:
        """Save if it is time; raise Interrupted after saving if someone asked to stop."""
        due = time.perf_counter() - self.saved_at >= self.minutes * 60
        due = due or (self.steps is not None and report.position.step % self.steps == 0)
        asked = self.group.total({"due": due, "stop": self.asked_to_stop})
        if asked["due"] or (report.last and self.at_end) or asked["stop"]:
            folder = self.save()
            self.saved_at = time.perf_counter()
            if asked["stop"] and not report.last:
                raise Interrupted(
                    f"stopped at step {report.position.step}; everything is saved in {folder}; "
                    "the same command with --resume goes on from there"
                )

    @contextmanager
    def listening_for_signals(self) -> Iterator[None]:
        """Turn the first Ctrl-C or SIGTERM into a stop after the current step; a second Ctrl-C stops at once."""

        def ask(number: int, frame: FrameType | None) -> None:
            self.asked_to_stop = True
            signal.signal(signal.SIGINT, before[signal.SIGINT])

        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, ask)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
