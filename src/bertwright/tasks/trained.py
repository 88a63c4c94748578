"""Tells the task of a trained model from its head; imports no torch, so that an exported model is asked without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertwright.errors import ModelError
from bertwright.tasks.base import Task
from bertwright.tasks.by_name import TASKS
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.task import Tag

if TYPE_CHECKING:
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import Problem

OF_PARTS: dict[HeadType, type[Task[Any]]] = {"token": Tag, "span": Answer, "choice": Choose}
"""The tasks that are told by what their head is about."""
BY_PROBLEM: dict[Problem, type[Task[Any]]] = {task.problem: task for task in (Classify, MultiLabel, Regress)}
"""The tasks about rows, by what Hugging Face calls the kind of their loss."""


TASK = "task"
"""The setting of its own by which a task is found that its head does not tell."""


def task_of_head(part: HeadType, problem: Problem, labels: Sequence[str], own: Mapping[str, Any]) -> Task[Any]:
    """Return the task of a trained model: what its head is about, the kind of its loss, its outputs by name.

    `own` are the settings that the task keeps in the model's folder, its name among them where the head is not enough.
    Raises ModelError where no task has such a head, or that name.
    """
    named = own.get(TASK)
    if named is None:
        return kind_of_head(part, problem).from_labels(labels).with_saved_settings(own)
    if not isinstance(named, str) or named not in TASKS:
        raise ModelError(f"the model was trained for a task {str(named)[:50]!r}, which is not known here")
    return TASKS[named].from_labels(labels).with_saved_settings({name: own[name] for name in own if name != TASK})


def settings_to_keep(task: Task[Any]) -> dict[str, Any]:
    """Return what a model's folder keeps of its task, so that `task_of_head` finds it again."""
    return task.own if kind_of_head(task.part, task.problem) is type(task) else {**task.own, TASK: task.name}


def kind_of_head(part: HeadType, problem: Problem) -> type[Task[Any]]:
    """Return the task that a head tells by itself, as of a model of another make; raises ModelError where none does."""
    of_rows = BY_PROBLEM.get(problem) if isinstance(problem, str) else None
    kind = of_rows if part == "row" else OF_PARTS.get(part) if isinstance(part, str) else None
    if kind is None:
        raise ModelError(
            f"no task has a head about {part!r} of the kind {problem!r}; export or fine-tune the model again"
        )
    return kind
