"""Holds our own runs that others are compared with: when they left the unigram entropy, and their loss at each step.

`benchmarks/reference_runs.py` writes reference_runs.json, from the runs in results/.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bertwright.train.diagnosis.course import Course, Lines, course_of

FILE = Path(__file__).with_name("reference_runs.json")
Start = Literal["random", "corpus", "model"]
"""What a run starts from: weights drawn at random, a start from the corpus, or another model."""
Family = Literal["adam", "muon", "lamb"]
"""Optimizers whose learning rates can be compared."""
FAMILIES: dict[str, Family] = {"muon": "muon", "lamb": "lamb"}
"""Of optimizers by name, those that are not of Adam's family."""
AT_ENTROPY, USES_CONTEXT, KNOWS_PAIRS = 0.1, -0.2, 0.6
"""Nats above the unigram entropy where a model knows how frequent words are, and where it uses context; the accuracy
of pairs from which on it is no constant answer."""
POINTS = 32
"""Points of a curve that are kept."""


@dataclass(frozen=True)
class RunKind:
    """What the course of a run depends on: its corpus (entropy in nats), its start, and its optimizer's peak rate."""

    entropy: float
    start: Start
    optimizer: Family
    learning_rate: float


@dataclass(frozen=True)
class Moment:
    """Where on its way a run was: steps made, and the sum of their learning rates."""

    step: float
    rates: float


@dataclass(frozen=True)
class ReferenceRun:
    """A healthy run: what it was, when it passed what every run passes, and its curve, [POINTS] each."""

    name: str
    kind: RunKind
    tokens_per_step: float
    at_entropy: Moment | None
    uses_context: Moment | None
    knows_pairs: Moment | None
    steps: list[float]
    rates: list[float]
    losses: list[float]

    def loss_at(self, step: float) -> float:
        """Return its loss at a step, as a multiple of the unigram entropy; after its last step that of the last."""
        return float(np.interp(step, self.steps, self.losses)) / self.kind.entropy

    def rates_at(self, step: float) -> float:
        """Return the sum of its learning rates up to a step."""
        return float(np.interp(step, self.steps, self.rates))


def kind_of_run(config: Mapping[str, Any], manifest: Mapping[str, Any]) -> RunKind | None:
    """Return the kind of a run of pre-training, from config.toml and manifest.json; None where it is none such."""
    optimizer, entropy = config.get("optimizer"), manifest.get("unigram_entropy")
    if not optimizer or not entropy or "objective" not in config:
        return None
    init = config.get("model", {}).get("init")
    start: Start = "model" if config.get("start") else "corpus" if init == "cooccurrence" else "random"
    family = FAMILIES.get(optimizer["name"], "adam")
    return RunKind(float(entropy), start, family, float(optimizer["learning_rate"]))


def reference_of(name: str, kind: RunKind, lines: Lines) -> ReferenceRun:
    """Return what is kept of a healthy run."""
    course = course_of(lines)

    def moment(found: int | None) -> Moment | None:
        return None if found is None else Moment(float(course.steps[found]), round(float(course.rates[found]), 6))

    chosen = sorted({int(np.searchsorted(course.steps, step)) for step in _spread(course)})
    return ReferenceRun(
        name,
        kind,
        round(float(course.tokens[-1] / course.steps[-1]), 1),
        moment(course.first_below(kind.entropy + AT_ENTROPY)),
        moment(course.first_below(kind.entropy + USES_CONTEXT)),
        moment(course.first_below(-KNOWS_PAIRS, -course.pairs)),
        [float(course.steps[one]) for one in chosen],
        [round(float(course.rates[one]), 6) for one in chosen],
        [round(float(course.smooth[one]), 4) for one in chosen],
    )


def _spread(course: Course) -> np.ndarray:
    """Return steps to keep, each the same multiple of the one before."""
    return np.geomspace(course.steps[0], course.steps[-1], POINTS).round()


@cache
def reference_runs() -> tuple[ReferenceRun, ...]:
    """Return the runs of reference_runs.json."""
    return tuple(_read(one) for one in json.loads(FILE.read_text(encoding="utf-8")))


def write_reference_runs(runs: list[ReferenceRun], file: Path = FILE) -> None:
    """Write a reference_runs.json, a run a line."""
    lines = ",\n".join(json.dumps(asdict(run)) for run in runs)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def _read(one: Mapping[str, Any]) -> ReferenceRun:
    moments = {
        name: None if one[name] is None else Moment(**one[name])
        for name in ("at_entropy", "uses_context", "knows_pairs")
    }
    return ReferenceRun(**{**one, "kind": RunKind(**one["kind"]), **moments})


def comparable(kind: RunKind) -> list[ReferenceRun]:
    """Return the runs of the same start and family of optimizers, else of the same start; none for another model's."""
    same = [run for run in reference_runs() if run.kind.start == kind.start]
    return [run for run in same if run.kind.optimizer == kind.optimizer] or same
