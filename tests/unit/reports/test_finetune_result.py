"""What is made of a finished model: dev sets the threshold that the other splits are evaluated with."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from torch import nn

from bertwright.tasks.eval_result import EvalResult
from bertwright.train.state import Progress
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.trained import evaluate_trained


@dataclass(frozen=True)
class Thresholded:
    """A task that takes its threshold from dev."""

    threshold: float | None = None


@dataclass(frozen=True)
class Setup:
    """A setup whose figures are the threshold it evaluates with; on dev it finds 7."""

    task: Thresholded = field(default_factory=Thresholded)
    splits: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("train", "test", "dev"), SimpleNamespace()))

    def tuned(self, model: nn.Module) -> tuple[Setup, EvalResult]:
        dev = self.evaluate(model, "dev")
        return replace(self, task=replace(self.task, threshold=dev.figures["found"])), dev

    def evaluate(self, model: nn.Module, split: str) -> EvalResult:
        return EvalResult({"found": 7.0} if split == "dev" else {"used": self.task.threshold or 0.0})


def test_dev_is_evaluated_first_and_sets_the_threshold() -> None:
    setup = Setup()
    model, progress = nn.Linear(1, 1), Progress(drawn=[0])
    trained = evaluate_trained(cast(TaskSetup, setup), model, seed=3, best_step=5, progress=progress)
    assert trained.results["dev"].figures == {"found": 7.0}
    assert trained.results["test"].figures == {"used": 7.0}
    assert "train" not in trained.results
    assert trained.setup.task.threshold == 7.0
    assert setup.task.threshold is None
    assert not trained.model.training
