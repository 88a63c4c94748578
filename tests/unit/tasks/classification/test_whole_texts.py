"""A model of pairs is not asked about single texts, nor the other way round; a folder that does not say, either."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bertwright.errors import UsageError
from bertwright.tasks.base import TrainFile
from bertwright.tasks.by_name import task_of_head
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.classification.whole_texts import WholeTexts
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.regression.task import Regress

KINDS: list[tuple[type[WholeTexts], str]] = [(Classify, "ab"), (MultiLabel, "ab"), (Regress, "12")]
PAIR, ALONE = ("A text.", "Another one."), ("A text.",)


@pytest.mark.parametrize(("kind", "targets"), KINDS)
@pytest.mark.parametrize("pairs", [True, False])
def test_asked_as_it_was_trained(kind: type[WholeTexts], targets: str, pairs: bool, tmp_path: Path) -> None:
    file = tmp_path / "train.tsv"
    name, header = ("score" if kind is Regress else "label"), "sentence1\tsentence2" if pairs else "sentence"
    texts = PAIR if pairs else ALONE
    file.write_text("".join("\t".join(row) + "\n" for row in [(header, name), *((*texts, one) for one in targets)]))
    trained: Any = kind.from_train_file(TrainFile(file, ColumnsConfig()))[0]
    task = task_of_head("row", kind.problem, trained.labels, trained.extra_config)
    own, other = (PAIR, ALONE) if pairs else (ALONE, PAIR)
    assert len(task.from_questions([own, own])) == 2
    with pytest.raises(UsageError, match="given"):
        task.from_questions([other])
    assert task.with_columns(file, ColumnsConfig()).pairs is pairs


@pytest.mark.parametrize(("kind", "targets"), KINDS)
def test_a_folder_that_does_not_say(kind: type[WholeTexts], targets: str) -> None:
    task = task_of_head("row", kind.problem, ["score"] if kind is Regress else list(targets), {})
    assert task.extra_config == {}
    assert task.from_questions([PAIR]).second == ["Another one."]
    assert task.from_questions([ALONE]).second is None
