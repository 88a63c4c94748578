"""Turns the state of a run into checkpoints while the next steps are made: the step waits for a copy in memory alone.

    step N -> copy -> step N + 1, N + 2 ...
                 `--> one thread: files, checksums, flush, rename, older ones deleted

At most one is being written; who saves before it is done waits for it, so that memory holds at most one copy for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bertwright.files import flush
from bertwright.train.checkpoint.folder import Retention, retain, write_checkpoint
from bertwright.train.checkpoint.snapshot import Snapshot, TrainState, copy_state


@dataclass
class Saver:
    """Saves what is `moving` in the folder `run`; `wait` and `close` come last.

    `good()` returns the state the run would go back to, saved along. `beside` are files that tell of the steps before a
    checkpoint, and must not be lost with the power if it is not: metrics.jsonl.
    """

    run: Path
    moving: TrainState
    identity: Mapping[str, Any]
    retention: Retention
    good: Callable[[], Snapshot | None] = field(default=lambda: None)
    beside: Sequence[Path] = ()
    write: Callable[..., Path] = write_checkpoint
    """Writes a state to a checkpoint; see `sharded_checkpoint` for that of several processes ..."""
    first: bool = True
    """... of which the first deletes older ones."""
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "checkpoint"), init=False)
    _writing: Future[Path] | None = field(default=None, init=False)

    def save(self, *, held_out: float | None = None) -> None:
        """Copy the state and have it written; the seconds it took are added to the position, for a run to state them.

        Raises what went wrong with the checkpoint before.
        """
        began, position = time.perf_counter(), self.moving.position
        self.wait()
        good = self.good()
        state = good if good is not None and good.step == position.step else copy_state(self.moving)
        ready = _copied(next(self.moving.model.parameters()).device)
        self._writing = self._thread.submit(self._write, state, good, held_out, ready)
        position.stalled += time.perf_counter() - began
        position.saved += 1

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
        self, state: Snapshot, good: Snapshot | None, held_out: float | None, ready: AbstractContextManager[Any]
    ) -> Path:
        for path in self.beside:
            flush(path)
        with ready:
            folder = self.write(self.run, state, identity=self.identity, good=good, held_out=held_out)
        if self.first:
            retain(self.run, folder, self.retention)
        return folder


def _copied(device: torch.device) -> AbstractContextManager[Any]:
    """Return the context in which a copy that was just ordered can be read by another thread.

    On a GPU that is a stream of its own, which begins when the copy is there and lets training go on beside it.
    """
    if device.type != "cuda":
        return nullcontext()
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream(device))
    return torch.cuda.stream(stream)
