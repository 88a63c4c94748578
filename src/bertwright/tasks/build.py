"""Names the tasks there are."""

from __future__ import annotations

from typing import Any

from bertwright.errors import UsageError
from bertwright.tasks.classify import Classify
from bertwright.tasks.contract import Task
from bertwright.tasks.embed import Embed
from bertwright.tasks.regress import Regress
from bertwright.tasks.tag import Tag
from bertwright.tasks.translate import Translate

TASKS: dict[str, type[Task[Any]]] = {task.name: task for task in (Classify, Regress, Tag)}
"""By the word that follows `bertwright finetune`."""

TASK_NAMES = (*TASKS, Translate.name, Embed.name)
"""Everything that may follow it: translate writes texts and embed gives vectors, where the others have a head."""


def task_named(name: str) -> type[Task[Any]]:
    """Return a task by its name; raises UsageError where there is none."""
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(TASK_NAMES)}")
    return TASKS[name]
