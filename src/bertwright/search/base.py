"""What a search asks of what it tunes: its space, what a trial takes, and one run of it.

A trial is a choice of settings and of a model. It is trained several times, in runs that differ in their seed or in the
fold that they are evaluated on; run n of all trials has the same seed and fold, so that trials are compared in pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bertwright.config import Range
from bertwright.train.callbacks.base import Callback

MODEL = "model"
"""The name of the model among the parameters of a trial, where there are several to choose from."""
ROWS = "batches.rows"
"""The name of the batch size of a task among them."""
Params = Mapping[str, Any]
"""What a trial has drawn from the space, by the dotted names of settings."""


@dataclass(frozen=True)
class Run:
    """A run of a trial.

    figure   the figure that is tuned, on dev
    parts    the same figure on each of several parts of dev, by which trials are compared run by run
    seconds  wall clock that it took
    """

    figure: float
    parts: tuple[float, ...]
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return it as the study keeps it."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Run:
        """Return what a study has kept."""
        return cls(float(kept["figure"]), tuple(kept["parts"]), float(kept["seconds"]))


class Tunable(ABC):
    """What is tuned: a task or pre-training.

    metric   the figure that is tuned; `sign` is 1 where a larger one is better, else -1
    space    what each setting may be, by its dotted name
    first    what is tried first: the defaults of each model, then what often does well; of these, one that lies further
             from the defaults than another that did worse than them is left out
    usual    how many of these are defaults
    """

    metric: str
    sign: int
    space: Mapping[str, Range]
    first: Sequence[dict[str, Any]]
    usual: int

    @abstractmethod
    def settings(self, params: Params) -> dict[str, Any]:
        """Return the nested settings that a trial stands for, beside those that all trials share."""

    @abstractmethod
    def model(self, params: Params) -> str:
        """Return the name of the model of a trial."""

    @abstractmethod
    def run_seconds(self, params: Params) -> float:
        """Return about how many seconds a run of a trial takes in one of the processes of the search."""

    @abstractmethod
    def retraining_seconds(self, params: Params) -> float:
        """Return about how many seconds the winner takes for a seed, with all cores."""

    @abstractmethod
    def run(self, params: Params, number: int, watch: Callback) -> Run:
        """Train run `number` of a trial and evaluate it; `watch` is called after each step.

        Raises TrainingError where it diverges or does not fit into memory, and what `watch` raises.
        """
