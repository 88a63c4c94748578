"""The files of real tasks, where they lie beside the project, are read whole and by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from bertwright.tasks.build import task_named
from bertwright.tasks.columns import ColumnsConfig

TASKS = Path(__file__).parents[4] / "shared" / "data" / "tasks"
FILES = {
    "sst2/train.tsv": ("classify", 6920, 2),
    "cola/train.tsv": ("classify", 8551, 2),
    "mrpc/train.tsv": ("classify", 3668, 2),
    "rte/train.tsv": ("classify", 2567, 2),
    "agnews/train.tsv": ("classify", 6000, 4),
    "trec/train.tsv": ("classify", 4952, 6),
    "subjectivity/train.tsv": ("classify", 8000, 2),
    "chnsenticorp/train.tsv": ("classify", 9255, 2),
    "stsb/train.tsv": ("regress", 5749, 1),
    "conll2003/dev.conll": ("tag", 3250, 9),
    "wnut17/train.conll": ("tag", 3394, 13),
    "wikiann_en/dev.conll": ("tag", 10_000, 7),
    "msra_ner/dev.conll": ("tag", 3000, 7),
}


@pytest.mark.parametrize("name", FILES)
def test_every_example_is_read(name: str) -> None:
    if not (TASKS / name).is_file():
        pytest.skip("the files of real tasks are not here")
    kind, count, labels = FILES[name]
    task, examples = task_named(kind).begin(TASKS / name, ColumnsConfig())
    assert len(examples.counts if kind == "tag" else examples) == count
    assert len(task.labels) == labels
