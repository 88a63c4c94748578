"""Figures that are not what they seem: where all predictions are the same a warning says so, and otherwise nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bertwright.tasks.base import TrainFile
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.eval_result import warning_of
from bertwright.tasks.tagging.task import Tag

SURE = 5 * np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("labels", "predictions", "warning"),
    [
        ([0, 1, 1], [0, 1, 1], ""),
        ([0, 1, 1], [1, 0, 0], ""),
        ([0, 1, 1], [1, 1, 1], "every prediction is 'good': the model predicts a single class"),
        ([1, 1, 1], [0, 1, 1], "every label is 'good': the figures say little"),
        ([1, 1, 1], [1, 1, 1], "every label is 'good': the figures say little"),
        ([1], [0], ""),
    ],
)
def test_one_class_for_all(labels: list[int], predictions: list[int], warning: str) -> None:
    found = warning_of(["bad", "good"], np.array(labels), np.array(predictions))
    assert found.startswith(warning)
    assert bool(found) == bool(warning)


def test_classes_and_labels() -> None:
    task = Classify.from_labels(["a", "b", "c"])
    examples = replace(task.from_questions([("x",), ("y",), ("z",)]), targets=np.array([0, 1, 2]))
    assert task.evaluate(SURE, examples).warning == ""
    assert task.evaluate(SURE[[2, 2, 2]], examples).warning.startswith("every prediction is 'c'")
    several = MultiLabel.from_labels(["a", "b", "c"])
    marked = replace(examples, targets=np.eye(3, dtype=np.float32))
    assert several.evaluate(SURE - 1, marked).warning == ""
    assert several.evaluate(SURE - 9, marked).warning.startswith("no label")
    assert several.evaluate(SURE - 9, replace(marked, targets=np.zeros((3, 3), dtype=np.float32))).warning == ""


def test_entities_and_tags(tmp_path: Path) -> None:
    file = tmp_path / "a.conll"
    file.write_text("Anna B-PER\nCarl I-PER\nsings O\n")
    task, splits = Tag.from_train_file(TrainFile(file, ColumnsConfig()))
    examples = splits["train"]
    nothing = np.zeros((3, len(task.labels)), dtype=np.float32)
    nothing[:, task.labels.index("O")] = 5
    assert task.evaluate(nothing, examples).warning.startswith("no entity")
    right = 5 * np.eye(len(task.labels), dtype=np.float32)[examples.targets]
    assert task.evaluate(right, examples).warning == ""
    file.write_text("Anna NOUN\nCarl NOUN\nsings VERB\n")
    task, splits = Tag.from_train_file(TrainFile(file, ColumnsConfig()))
    examples = splits["train"]
    assert task.evaluate(np.array([[5, 0]] * 3, dtype=np.float32), examples).warning.startswith(
        "every prediction is 'NOUN'"
    )
