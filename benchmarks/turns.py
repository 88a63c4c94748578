"""Has several processes take turns at the same work and collects what each did: the other end of `peers/gate.py`."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

HERE = Path(__file__).parent
WARM_UP = 0.75
"""Fraction of the seconds in which a side must be warm."""


@dataclass
class Side:
    """One process: what it did in its turns, and why it ended, where it failed."""

    process: subprocess.Popen[str]
    messages: IO[str]
    said: queue.Queue[str | None]
    listener: threading.Thread
    ready: float | None = None
    """Seconds from its start to the end of its warm-up, compilation included."""
    turns: list[dict[str, float]] = field(default_factory=list)
    failure: str | None = None

    def rate(self, name: str) -> float | None:
        """Return how much of `name` it did a second, the median of its turns; None where it had none."""
        return median(turn[name] / turn["seconds"] for turn in self.turns) if self.turns else None

    @property
    def memory(self) -> float:
        """The most bytes that its tensors held on the GPU."""
        return max((turn["memory"] for turn in self.turns), default=0)

    def figures(self) -> dict[str, Any]:
        """Return all of it for a JSON file."""
        return {"warm_up_seconds": self.ready, "turns": self.turns, "failure": self.failure}


def take_turns(commands: Mapping[str, Sequence[Any]], turns: int, *, seconds: float) -> dict[str, Side]:
    """Start all commands, wait until each is warm, and let one after another do a turn, so many times.

    One that fails, or is not warm within WARM_UP of the seconds, is out; the others go on. No turn begins after the
    seconds but for the answers that are due.
    """
    began = time.monotonic()
    sides = {name: _started(command) for name, command in commands.items()}
    try:
        for side in sides.values():
            if (line := _line(side, "ready", until=began + WARM_UP * seconds)) is not None:
                side.ready = line["ready"]
        for _ in range(turns):
            for side in sides.values():
                if side.failure is None and (line := _go(side, until=began + seconds)) is not None:
                    side.turns.append(line)
    finally:
        for side in sides.values():
            _end(side)
            side.listener.join()
            for pipe in (side.process.stdin, side.process.stdout, side.messages):
                if pipe is not None:
                    with suppress(OSError):
                        pipe.close()
    return sides


def _started(command: Sequence[Any]) -> Side:
    messages = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
    paths = [str(HERE), str(HERE / "peers"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, *(str(word) for word in command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=messages,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",  # the Trainer's workers are forks
            "STARTED": str(time.time()),
        },
    )
    said: queue.Queue[str | None] = queue.Queue()
    listener = threading.Thread(target=_listen, args=(process, said), daemon=True)
    listener.start()
    return Side(process, messages, said, listener)


def _listen(process: subprocess.Popen[str], said: queue.Queue[str | None]) -> None:
    """Put what a process says into a queue, and None when it has ended."""
    assert process.stdout is not None
    for text in process.stdout:
        said.put(text)
    said.put(None)


def _go(side: Side, *, until: float) -> dict[str, float] | None:
    assert side.process.stdin is not None
    with suppress(OSError):  # it is gone, and its output ends
        side.process.stdin.write("go\n")
        side.process.stdin.flush()
    return _line(side, "seconds", until=until)


def _line(side: Side, wanted: str, *, until: float) -> dict[str, float] | None:
    """Return its next line of JSON that says what is `wanted`; None, the failure noted, where it ends or is late."""
    while True:
        try:
            text = side.said.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            side.failure = "it took too long to start" if wanted == "ready" else "a turn took too long"
            _end(side)
            return None
        if text is None:
            break
        if text.startswith("{") and f'"{wanted}"' in text:
            found: dict[str, float] = json.loads(text)
            return found
    side.messages.seek(0)
    lines = [line.strip() for line in side.messages if line.strip()]
    side.failure = lines[-1][:300] if lines else f"it ended with exit code {side.process.wait()}"
    return None


def _end(side: Side) -> None:
    side.process.kill()
    side.process.wait()
