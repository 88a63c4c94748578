"""F1 of two classes says which of them is positive, and may be asked for the other; of several there is one F1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from bertwright.errors import ConfigError, UsageError
from bertwright.inference.task_predictor import with_positive
from bertwright.tasks.by_name import begin_task
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.regression.task import Regress

TRUTH, ANSWERS = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])


@pytest.mark.parametrize(("chosen", "place"), [(None, 1), ("ham", 0), ("spam", 1)])
def test_f1_is_that_of_the_class_it_names(chosen: str | None, place: int) -> None:
    task = Classify.from_labels(["ham", "spam"])
    task = task if chosen is None else task.with_positive(chosen)
    examples = replace(task.ask([("x",)] * 5), targets=TRUTH)
    figures = task.judge(np.eye(2)[ANSWERS], examples).figures
    assert figures["f1"] == sklearn.metrics.f1_score(TRUTH, ANSWERS, pos_label=place)
    assert figure_names(figures, positive=task.positive)["f1"] == f"F1 (positive: {('ham', 'spam')[place]})"
    assert Classify.from_labels(["ham", "spam"]).with_saved_settings(task.own).positive == task.positive


def test_several_classes_have_one_row_of_f1() -> None:
    task = Classify.from_labels(["a", "b", "c"])
    figures = task.judge(np.eye(3), replace(task.ask([("x",)] * 3), targets=np.arange(3))).figures
    assert figures["f1"] == figures["f1_macro"]
    assert list(figure_names(figures, positive=task.positive)) == ["accuracy", "f1_macro", "matthews", "loss"]


def test_a_positive_class_is_one_of_two(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\none\tham\ntwo\tspam\n")
    (tmp_path / "b.tsv").write_text("text\tlabel\none\tham\ntwo\tspam\nthree\teggs\n")
    task, _ = begin_task("classify", HeadConfig(positive="ham"), tmp_path / "a.tsv", ColumnsConfig())
    assert task.positive == "ham"
    for name, positive, message in (("a", "egg", "no class 'egg'; known: ham, spam"), ("b", "ham", "here are 3")):
        with pytest.raises(ConfigError, match=message):
            begin_task("classify", HeadConfig(positive=positive), tmp_path / f"{name}.tsv", ColumnsConfig())
    with pytest.raises(ConfigError, match=r"head.positive"):
        begin_task("classify", HeadConfig(positive="ham", multi_label=True), tmp_path / "a.tsv", ColumnsConfig())
    with pytest.raises(UsageError, match="--positive"):
        with_positive(Regress("score"), "ham")
