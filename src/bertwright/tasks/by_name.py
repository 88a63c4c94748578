"""Names the tasks there are; imports no torch, so that an exported model is asked without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bertwright.errors import UsageError
from bertwright.tasks.base import Task
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.examples import split_dev
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.task import Tag

TASKS: dict[str, type[Task[Any]]] = {
    "classify": Classify,
    "regress": Regress,
    "tag": Tag,
    "answer": Answer,
    "choose": Choose,
}
"""Every task with a head, by the word that follows `bertwright finetune`."""
WITHOUT_HEAD = ("translate", "embed")
"""What else may follow it: translate writes texts, and embed gives vectors."""


def task_names() -> tuple[str, ...]:
    """Return everything that may follow `bertwright finetune`."""
    return (*TASKS, *WITHOUT_HEAD)


def begin_task(
    name: str, head: HeadConfig, path: Path, columns: ColumnsConfig, *, dev_fraction: float | None = None
) -> tuple[Task[Any], dict[str, Any]]:
    """Return the task of a training file with the head asked for, and its examples as "train".

    With `dev_fraction` that share of them is held out as "dev". Raises UsageError or InputError.
    """
    kind = task_named(name)
    if head.multi_label and kind is Classify:
        kind = MultiLabel
        head = head.model_copy(update={"multi_label": False})
    if columns.label_names and kind is not Tag:
        raise UsageError(f"--label-names is for tag; {name} takes labels as they are in the file, so leave it out")
    task, examples = kind.begin(path, columns)
    splits = {"train": examples}
    if dev_fraction is not None:
        splits["train"], splits["dev"] = split_dev(examples, fraction=dev_fraction, labels=task.labels)
    return task.with_head(head, splits["train"]), splits


def task_named(name: str) -> type[Task[Any]]:
    """Return a task by its name; raises UsageError where there is none."""
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(task_names())}")
    return TASKS[name]
