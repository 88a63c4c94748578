"""Turns the state of a run into checkpoints while the next steps are made: the step waits for a copy in memory alone.

    step N -> copy -> step N + 1, N + 2 ...
                 `--> one thread: files, checksums, flush, rename, older ones deleted

At most one is being written; who saves before it is done waits for it, so that memory holds at most one copy for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch

from bertwright.files import flush
from bertwright.train.checkpoint.folder import Retention, retain, write_checkpoint
from bertwright.train.checkpoint.snapshot import Snapshot, copy_state
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.state import Saved, TrainState


@dataclass
class Saver(Saved):
    """Saves the state of a run in its folder `run`; `wait` and `close` come last.

    The state that `guard` would go back to, if there is one, is saved along. `beside` are files about the steps before
    a checkpoint, which must not be lost with the power if it is not: metrics.jsonl.
    """

    SAVED: ClassVar[Mapping[str, str]] = {"saved": "saved"}

    run: Path
    train_state: TrainState
    identity: Mapping[str, Any]
    retention: Retention
    guard: LossSpikeGuard | None = None
    beside: Sequence[Path] = ()
    write: Callable[..., Path] = write_checkpoint
    """Writes a state to a checkpoint; see `sharded_checkpoint` for that of several processes ..."""
    is_main: bool = True
    """... of which rank 0 deletes older ones."""
    saved: int = 0
    """Checkpoints begun, over all sessions of the run."""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"), init=False)
    _writing: Future[Path] | None = field(default=None, init=False)

    def save(self, *, held_out: float | None = None, name: str | None = None) -> None:
        """Copy the state and have it written; raises what went wrong with the checkpoint before.

        One with a `name` of its own is kept whatever comes after it.
        """
        with self.train_state.stalling():
            self.wait()
            good = self.guard.good if self.guard is not None else None
            same = good is not None and good.step == self.train_state.progress.step
            snapshot = good if good is not None and same else copy_state(self.train_state)
            ready = _copied(next(self.train_state.model.parameters()).device)
            self._writing = self._thread.submit(self._write, snapshot, good, held_out, ready, name)
        self.saved += 1

    @property
    def busy(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writing is not None and not self._writing.done()

    @property
    def failed(self) -> bool:
        """Whether the checkpoint that was written last could not be: `wait` raises why."""
        return self._writing is not None and self._writing.done() and self._writing.exception() is not None

    def wait(self) -> Path | None:
        """Wait until the checkpoint being written is whole; return its path, or raise what went wrong."""
        writing, self._writing = self._writing, None
        return None if writing is None else writing.result()

    def close(self) -> None:
        """Wait for the checkpoint being written, whatever comes of it: the run ends for another reason."""
        self._thread.shutdown(wait=True)

    def _write(
        self,
        snapshot: Snapshot,
        good: Snapshot | None,
        held_out: float | None,
        ready: AbstractContextManager[Any],
        name: str | None,
    ) -> Path:
        for path in self.beside:
            flush(path)
        for state in (snapshot, good) if good is not None else (snapshot,):
            state.arrival.wait()
        with ready:
            folder = self.write(self.run, snapshot, identity=self.identity, good=good, held_out=held_out, name=name)
        if self.is_main and name is None:
            retain(self.run, folder, self.retention)
        return folder


def _copied(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which another thread reads what sharded weights leave on a GPU.

    That is a stream of its own, which begins when the copy is there and lets training go on beside it.
    """
    if device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)
