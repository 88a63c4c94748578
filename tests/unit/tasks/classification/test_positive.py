"""F1 of two classes says which of them is positive, and may be asked for the other; of several there is one F1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

from bertwright.errors import ConfigError, UsageError
from bertwright.inference.evaluate_task import with_positive
from bertwright.tasks.base import TrainFile
from bertwright.tasks.by_name import task_named
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.regression.task import Regress

TRUTH, ANSWERS = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 0])


@pytest.mark.parametrize(("chosen", "place"), [(None, 1), ("ham", 0), ("spam", 1)])
def test_f1_is_that_of_the_class_it_names(chosen: str | None, place: int) -> None:
    task = Classify.from_labels(["ham", "spam"], {} if chosen is None else {"positive": chosen})
    examples = replace(task.from_questions([("x",)] * 5), targets=TRUTH)
    figures = task.evaluate(np.eye(2)[ANSWERS], examples).figures
    assert figures["f1"] == sklearn.metrics.f1_score(TRUTH, ANSWERS, pos_label=place)
    assert figure_names(figures, positive=task.positive)["f1"] == f"F1 (positive: {('ham', 'spam')[place]})"
    assert Classify.from_labels(["ham", "spam"], task.extra_config).positive == task.positive


def test_several_classes_have_one_row_of_f1() -> None:
    task = Classify.from_labels(["a", "b", "c"])
    figures = task.evaluate(np.eye(3), replace(task.from_questions([("x",)] * 3), targets=np.arange(3))).figures
    assert figures["f1"] == figures["f1_macro"]
    assert list(figure_names(figures, positive=task.positive)) == ["accuracy", "f1_macro", "matthews", "loss", "ece"]


def test_a_positive_class_is_one_of_two(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("text\tlabel\none\tham\ntwo\tspam\n")
    (tmp_path / "b.tsv").write_text("text\tlabel\none\tham\ntwo\tspam\nthree\teggs\n")
    task, _ = Classify.from_train_file(TrainFile(tmp_path / "a.tsv", head=HeadConfig(positive="ham")))
    assert task.positive == "ham"
    for name, positive, message in (("a", "egg", "no class 'egg'; known: ham, spam"), ("b", "ham", "here are 3")):
        with pytest.raises(ConfigError, match=message):
            Classify.from_train_file(TrainFile(tmp_path / f"{name}.tsv", head=HeadConfig(positive=positive)))
    head = HeadConfig(positive="ham", multi_label=True)
    with pytest.raises(ConfigError, match=r"head.positive"):
        task_named("classify", head).from_train_file(TrainFile(tmp_path / "a.tsv", head=head))
    with pytest.raises(UsageError, match="--positive"):
        with_positive(Regress(("score",)), "ham")
