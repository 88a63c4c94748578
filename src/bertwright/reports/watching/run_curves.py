"""Turns RUN folders, also of runs that still train, into what the page of curves draws: series over steps, as JSON."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bertwright.files import read_json
from bertwright.nested import read_toml
from bertwright.reports.html_report import sample_tables
from bertwright.train.callbacks.track import flat
from bertwright.train.diagnosis.folder_check import diagnose_run

MOST_POINTS = 600
"""Points of a curve that are drawn."""
SILENT = 180.0
"""Seconds without a new line after which a run that is not done is taken for stopped."""
PANELS: tuple[tuple[str, str], ...] = (
    ("Loss (nats)", "loss"),
    ("Accuracy", "accuracy"),
    ("Perplexity", "perplexity"),
    ("Learning rate", "rate"),
    ("Gradient norm", "gradient_norm"),
    ("Tokens a second", "tokens_per_second"),
    ("MFU", "mfu"),
    ("Padding and waiting for data", "padding waiting"),
    ("Memory (GB)", "memory"),
    ("Probes", "probes"),
)
"""Pictures of the page, and the ends of the names of what they show; figures on dev of other names have one, too."""
OTHER = "Other figures"
LOGARITHMIC = ("Perplexity", "Gradient norm")
LEFT_OUT = ("step", "tokens", "epochs", "seconds", "peak_flops", "length", "fraction", "samples")
"""What of a line is no curve."""


@dataclass
class RunCurves:
    """A run that is read again and again: only new lines of its metrics.jsonl are parsed.

    name  what the page calls it
    """

    folder: Path
    name: str
    lines: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    """Lines with predictions, apart: they are large."""
    _read: tuple[int, int] = (-1, 0)
    """The file that was read, and how much of it."""

    def update(self) -> None:
        """Read what is new; a file that was written anew, as a resumed run does, is read from its beginning."""
        file = metrics_of(self.folder)
        if file is None:
            self.lines, self.samples, self._read = [], [], (-1, 0)
            return
        with file.open("rb") as content:
            found = os.fstat(content.fileno())
            which, offset = self._read
            if found.st_ino != which or found.st_size < offset:
                self.lines, self.samples, offset = [], [], 0
            content.seek(offset)
            whole, newline, _ = content.read().rpartition(b"\n")
        self._read = (found.st_ino, offset + len(whole) + len(newline))
        for text in whole.split(b"\n"):
            self._add(text)

    def _add(self, text: bytes) -> None:
        """Keep a line, if it is one: a torn one is written again by a run that goes on."""
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            return
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            return
        if line.get("samples"):
            self.samples.append({"step": line["step"], "samples": line["samples"]})
        self.lines.append({name: value for name, value in line.items() if name != "samples"})

    def figures(self) -> dict[str, Any]:
        """Return what the page shows of the run, as JSON has it."""
        self.update()
        manifest = _object(self.folder / "manifest.json")
        last = self.lines[-1] if self.lines else {}
        result = _object(self.folder / "result.json")
        made = [line for line in self.lines if "loss" in line]
        evaluated = [line for line in self.lines if line.get("valid") or line.get("probes")]
        return {
            "name": self.name,
            "task": _task_of(self.folder),
            "state": self._state(result, last),
            "step": last.get("step", 0),
            "tokens": last.get("tokens", 0),
            "minutes": round(last.get("seconds", 0.0) / 60, 2),
            "left": minutes_left(last),
            "entropy": manifest.get("unigram_entropy"),
            "check": self._check(),
            "training": series(thinned(made), held_out=False),
            "held_out": series(thinned(evaluated), held_out=True),
            "samples": self._predictions(),
        }

    def _state(self, result: Mapping[str, Any], last: Mapping[str, Any]) -> str:
        if result and result.get("steps", 0) >= last.get("step", 0):
            return "done"
        file = metrics_of(self.folder)
        if file is None:
            return "no step yet"
        return "trains" if time.time() - file.stat().st_mtime < SILENT else "stopped"

    def _check(self) -> dict[str, Any] | None:
        """Return whether the loss is normal; nothing where files of the run are being written or damaged."""
        try:
            found = diagnose_run(self.folder, self.lines)
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return None if found is None else {"normal": found.normal, "text": str(found)}

    def _predictions(self) -> list[dict[str, Any]]:
        """Return the predictions for masked sentences along training; nothing where they are not as they should be."""
        try:
            return sample_tables(self.samples)
        except (LookupError, TypeError, AttributeError):
            return []


def metrics_of(run: Path) -> Path | None:
    """Return the metrics of a run; of several seeds those of the one that trains, until the best is chosen."""
    if (run / "metrics.jsonl").is_file():
        return run / "metrics.jsonl"
    found = [*run.glob("seeds/*/metrics.jsonl"), *run.glob("folds/*/metrics.jsonl")]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)


def _object(file: Path) -> dict[str, Any]:
    """Return the object of a JSON file; an empty one where there is none, or it is no object."""
    try:
        found = read_json(file)
    except (OSError, ValueError, RecursionError):
        return {}
    return dict(found) if isinstance(found, dict) else {}


def _task_of(run: Path) -> str:
    try:
        task = read_toml(run / "config.toml").get("task")
    except Exception:  # a file that is being written is read again in a moment
        task = None
    return task if isinstance(task, str) else "pretrain"


def minutes_left(line: Mapping[str, Any]) -> float | None:
    """Return about how many minutes a run has left after a line; None where it does not say how far it is.

    >>> minutes_left({"seconds": 120.0, "fraction": 0.25})
    6.0
    """
    fraction = line.get("fraction")
    return round(line["seconds"] * (1 / fraction - 1) / 60, 1) if fraction and "seconds" in line else None


def thinned(lines: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return at most about MOST_POINTS of the lines, evenly spread, the last among them."""
    apart = max(1, -(-len(lines) // MOST_POINTS))
    return [line for place, line in enumerate(lines) if (len(lines) - 1 - place) % apart == 0]


def series(lines: Sequence[Mapping[str, Any]], *, held_out: bool) -> dict[str, Any]:
    """Return lines as columns: where they are, and the curves of each picture by their names; null where unknown."""
    rows = [dict(flat(_held_out(line)) if held_out else flat(_training(line))) for line in lines]
    names = dict.fromkeys(name for row in rows for name, value in row.items() if _is_number(value))
    curves: dict[str, dict[str, list[float | None]]] = {}
    for name in names:
        scale = 1e-9 if name.endswith("memory") else 1.0
        values = [row[name] * scale if _is_number(row.get(name)) else None for row in rows]
        curves.setdefault(panel_of(name), {})[name] = values
    return {
        "steps": [line["step"] for line in lines],
        "tokens": [line.get("tokens") for line in lines],
        "minutes": [round(line.get("seconds", 0.0) / 60, 3) for line in lines],
        "curves": curves,
    }


def _training(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in line.items() if name not in (*LEFT_OUT, "valid", "probes")}


def _held_out(line: Mapping[str, Any]) -> dict[str, Any]:
    probes = {f"probes {name}": value for name, value in (line.get("probes") or {}).items()}
    known = {name: value for name, value in (line.get("valid") or {}).items() if not name.endswith("_majority")}
    return {**known, **probes}


def _is_number(value: object) -> bool:
    """Say whether a value can be drawn: JSON knows no nan."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < float("inf")


def panel_of(name: str) -> str:
    """Return the picture that a curve belongs to.

    >>> panel_of("mlm_loss"), panel_of("muon_learning_rate"), panel_of("f1")
    ('Loss (nats)', 'Learning rate', 'Other figures')
    """
    if name.startswith("probes "):
        return "Probes"
    return next((title for title, ends in PANELS if name.endswith(tuple(ends.split()))), OTHER)


def named_runs(folders: Sequence[Path]) -> list[RunCurves]:
    """Return the runs of folders, by their names, or by more of their paths where names are the same."""
    parts = 1
    paths = [folder.resolve().parts for folder in folders]
    while len({one[-parts:] for one in paths}) < len(set(paths)):
        parts += 1
    return [RunCurves(folder, "/".join(one[-parts:])) for folder, one in zip(folders, paths, strict=True)]
