"""Turns a run into the models it was along the way: MODEL folders in RUN/snapshots, to see what is learned when.

The first is written before the first step; each of the others at twice the progress of the one before, the last at half
of the run, since most is learned early. The end of the run is RUN/model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bertwright.files import remove
from bertwright.hub.snapshots import snapshot_folder, snapshots_in
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.state import TrainState


def snapshot_marks(count: int) -> list[float]:
    """Return how far, in [0, 1), a run is at each of its `count` snapshots.

    >>> snapshot_marks(4)
    [0.0, 0.125, 0.25, 0.5]
    """
    return [0.0, *(2.0**-power for power in range(count - 1, 0, -1))]


@dataclass
class SnapshotCallback(Callback):
    """Writes the weights as they are at each mark; stands before evaluation, so that a stop there loses none.

    `save(folder)` writes the model to a folder; every process must call it. `folder` is RUN/snapshots.
    """

    folder: Path
    count: int
    save: Callable[[Path], None]
    is_main: bool = True
    taken: int = field(default=0, init=False)
    """Marks passed."""

    def on_begin(self, state: TrainState, fraction: float) -> None:
        """Delete the snapshots of later steps, which will be made again, and write that of a run that begins."""
        for step, folder in snapshots_in(self.folder).items() if self.is_main else ():
            if step > state.progress.step:
                remove(folder)
        self.taken = self._passed(fraction)
        if not state.progress.step:
            self.save(snapshot_folder(self.folder, 0))

    def on_step(self, report: StepReport) -> None:
        """Write the model if the run has passed the next mark; the end of a run has a folder of its own."""
        passed = self._passed(report.fraction)
        if passed > self.taken and not report.last:
            self.save(snapshot_folder(self.folder, report.progress.step))
        self.taken = passed

    def _passed(self, fraction: float) -> int:
        return sum(mark <= fraction + 1e-9 for mark in snapshot_marks(self.count))
