"""Teacher and student are measured alike: thresholds tuned on dev for both, the temperature divided by once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.reader import Texts
from bertwright.tasks.classification.task import Classify
from bertwright.verbs.calls.distilling import sides

ROWS = 400


def _texts(targets: np.ndarray) -> Texts:
    return Texts(Path("x.tsv"), [str(row) for row in range(len(targets))], None, targets)


def _setup(task: Any, examples: Texts) -> Any:
    splits = {
        "dev": SimpleNamespace(examples=examples, rows=None),
        "test": SimpleNamespace(examples=examples, rows=None),
    }
    return SimpleNamespace(
        task=task, splits=splits, config=SimpleNamespace(batches=SimpleNamespace(max_length=16))
    )  # fmt: skip


def test_the_thresholds_of_a_teacher_are_tuned_on_dev_as_those_of_a_student(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels = (random.random((ROWS, 3)) < 0.15).astype(np.float32)
    logits = (labels * 3 - 4 + random.normal(0, 1.5, (ROWS, 3))).astype(np.float32)
    examples, task = _texts(labels), MultiLabel(("a", "b", "c"), pairs=False)
    monkeypatch.setattr(sides, "ask", lambda *given, **named: logits)
    found = sides.of_teacher(_setup(task, examples), SimpleNamespace(), ["dev", "test"])  # type: ignore[arg-type]
    student = task.tuned(logits, examples).evaluate(logits, examples).figures
    assert found["test"] == found["dev"] == dict(student)
    assert found["dev"]["f1_micro"] > task.evaluate(logits, examples).figures["f1_micro"] + 0.2


def test_an_export_whose_logits_are_calibrated_has_the_loss_of_the_student(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, ROWS)
    logits = np.stack([1.0 - 2 * labels, 2 * labels - 1.0], 1) * 3 + random.normal(0, 4, (ROWS, 2))
    examples, plain = _texts(labels), Classify(("a", "b"), pairs=False)
    tuned = plain.tuned(logits, examples)
    assert tuned.temperature > 1.5
    setup = _setup(tuned, examples)
    monkeypatch.setattr(sides, "logits_of", lambda *given, **named: logits / tuned.divisors)
    best, opened = SimpleNamespace(setup=setup), SimpleNamespace(logits=None)
    found = sides.of_export(best, plain, opened, "dev")  # type: ignore[arg-type]
    student = tuned.evaluate(logits, examples).figures
    assert {name: found[name] for name in ("loss", "ece", "accuracy")} == pytest.approx(
        {name: student[name] for name in ("loss", "ece", "accuracy")}, abs=1e-6
    )
