"""Names the tasks there are."""

from __future__ import annotations

from typing import Any

from bertwright.errors import UsageError
from bertwright.tasks.answer import Answer
from bertwright.tasks.choose import Choose
from bertwright.tasks.classify import Classify
from bertwright.tasks.contract import Task
from bertwright.tasks.regress import Regress
from bertwright.tasks.tag import Tag

TASKS: dict[str, type[Task[Any]]] = {task.name: task for task in (Classify, Regress, Tag, Answer, Choose)}
"""By the word that follows `bertwright finetune`."""


def task_named(name: str) -> type[Task[Any]]:
    """Return a task by its name; raises UsageError where there is none."""
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(TASKS)}")
    return TASKS[name]
