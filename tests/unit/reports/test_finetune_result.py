"""What is made of a finished model: dev settles what the other splits are evaluated by."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

from torch import nn

from bertwright.tasks.eval_result import EvalResult
from bertwright.train.loop import Progress
from bertwright.train.task_setup.run_of_task import Tuning, judge_tuned


@dataclass(frozen=True)
class Thresholded:
    """Parts whose figures tell the threshold they were evaluated by; dev sets it to 7."""

    threshold: float | None = None
    splits: dict[str, Any] = field(default_factory=lambda: dict.fromkeys(("train", "test", "dev"), SimpleNamespace()))

    def judge(self, model: nn.Module, split: str) -> EvalResult:
        return EvalResult({"found": 7.0} if split == "dev" else {"used": self.threshold or 0.0})

    def settled(self, dev: EvalResult) -> Thresholded:
        return replace(self, threshold=dev.figures["found"])


def test_dev_is_judged_first_and_settles_the_rest() -> None:
    parts = Thresholded()
    tuned = judge_tuned(cast(Tuning, parts), nn.Linear(1, 1), seed=3, best_step=5, position=Progress(drawn=[0]))
    assert tuned.judged["dev"].figures == {"found": 7.0}
    assert tuned.judged["test"].figures == {"used": 7.0}
    assert "train" not in tuned.judged
    assert cast(Thresholded, tuned.parts).threshold == 7.0
    assert parts.threshold is None
    assert not tuned.model.training
