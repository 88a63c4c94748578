"""What every part of the GPU benchmark is given, and how it tells what it finds: into its own file, as it comes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

GIGABYTE = 1e9
TOKENS = {70: 32_768, 30: 16_384, 20: 8_192, -1: 4_096}
"""Tokens of a step on cards of more than so many gigabytes."""


@dataclass
class Part:
    """A part at work.

    folder  the folder of the benchmark, with the data in `folder / "data"`
    toy     whether everything is small: a rehearsal on a CPU
    out     JSON file of the part
    ends    when it must have ended, by time.monotonic()
    """

    folder: Path
    toy: bool
    out: Path
    ends: float
    cells: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def cell(self, what: str, ours: Any, *, peer: Any = None, unit: str = "", also: str = "", good: Any = None) -> None:
        """Add a line of the table: a figure of ours, that of a peer, remarks, and whether it is as it must be."""
        numbers = isinstance(ours, (int, float)) and isinstance(peer, (int, float)) and peer
        times = round(ours / peer, 2) if numbers else None
        cell = {"what": what, "ours": ours, "peer": peer, "unit": unit, "times": times, "also": also, "good": good}
        self.cells.append({name: value for name, value in cell.items() if value not in (None, "")})
        self.write()

    def tell(self, **details: Any) -> None:
        """Add what stands in the file alone."""
        self.details |= details
        self.write()

    def write(self) -> None:
        """Write the file anew; a process that is killed leaves what was there before."""
        beside = self.out.with_suffix(".part")
        beside.write_text(json.dumps({"cells": self.cells, **self.details}, indent=1) + "\n", encoding="utf-8")
        os.replace(beside, self.out)

    @property
    def seconds_left(self) -> float:
        """The seconds it has, but for some in which to write down what it found."""
        return self.ends - time.monotonic() - 3

    @property
    def data(self) -> Path:
        """The DATA folder."""
        return self.folder / "data"

    def size(self, name: str) -> str:
        """Return the size that stands for a named one."""
        return "tiny" if self.toy else name

    def length(self, tokens: int) -> int:
        """Return the length of a row that stands for one of so many tokens."""
        return tokens // 4 if self.toy else tokens

    def rows(self, length: int) -> int:
        """Return the rows of a step, by the memory of the card, which holds both sides at once."""
        if self.toy:
            return max(2, 512 // length)
        memory = torch.cuda.get_device_properties(0).total_memory / GIGABYTE if torch.cuda.is_available() else 0
        return next(tokens for least, tokens in TOKENS.items() if memory > least) // length

    @property
    def card(self) -> dict[str, Any]:
        """What the part `card` has found; empty where it has not run."""
        file = self.out.with_name("card.json")
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def mfu(self, flops: float | None) -> str:
        """Return useful operations a second as shares of the maker's peak and of the one measured here."""
        if not flops:
            return ""
        peaks = {
            "of the data sheet": self.card.get("maker_flops"),
            "of the measured peak": self.card.get("measured_flops"),
        }
        return ", ".join(f"{flops / peak:.1%} {name}" for name, peak in peaks.items() if peak)


def missing_peer() -> str:
    """Return why there is no peer to measure beside; nothing where there is one."""
    absent = [name for name in ("transformers", "accelerate") if find_spec(name) is None]
    return f"{' and '.join(absent)} not installed" if absent else ""
