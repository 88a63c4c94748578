"""Has several processes take turns at the same work and collects what each did: the other end of `peers/gate.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import IO, Any

HERE = Path(__file__).parent


@dataclass
class Side:
    """One process: what it did in its turns, and why it ended, where it failed."""

    process: subprocess.Popen[str]
    messages: IO[str]
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


def take_turns(commands: Mapping[str, Sequence[Any]], turns: int) -> dict[str, Side]:
    """Start all commands, wait until each is warm, and let one after another do a turn, so many times.

    One that fails is out; the others go on.
    """
    sides = {name: _started(command) for name, command in commands.items()}
    try:
        for side in sides.values():
            line = _line(side, "ready")
            side.ready = None if line is None else line["ready"]
        for _ in range(turns):
            for side in sides.values():
                if side.failure is None and (line := _go(side)) is not None:
                    side.turns.append(line)
    finally:
        for side in sides.values():
            side.process.kill()
            side.process.wait()
            side.messages.close()
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
            "STARTED": str(time.time()),
        },
    )
    return Side(process, messages)


def _go(side: Side) -> dict[str, float] | None:
    assert side.process.stdin is not None
    try:
        side.process.stdin.write("go\n")
        side.process.stdin.flush()
    except OSError:
        pass  # it is gone, and its output ends
    return _line(side, "seconds")


def _line(side: Side, wanted: str) -> dict[str, float] | None:
    """Return its next line of JSON that says what is `wanted`; None, with the failure noted, where it ends before."""
    assert side.process.stdout is not None
    for text in side.process.stdout:
        if text.startswith("{") and f'"{wanted}"' in text:
            found: dict[str, float] = json.loads(text)
            return found
    side.messages.seek(0)
    said = [line.strip() for line in side.messages if line.strip()]
    side.failure = said[-1][:300] if said else f"it ended with exit code {side.process.wait()}"
    return None
