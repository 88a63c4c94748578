"""Names the tasks there are, and finds the task of a trained model by its head.

Imports no torch, so that an exported model is asked without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bertwright.errors import ModelError, UsageError
from bertwright.tasks.base import Task
from bertwright.tasks.classification.long_texts import KEPT, ClassifyLong
from bertwright.tasks.classification.multi_label import MultiLabel
from bertwright.tasks.classification.task import Classify
from bertwright.tasks.head import HeadConfig
from bertwright.tasks.multiple_choice.task import Choose
from bertwright.tasks.question_answering.task import Answer
from bertwright.tasks.ranking.task import Rank
from bertwright.tasks.regression.task import Regress
from bertwright.tasks.tagging.task import Tag

if TYPE_CHECKING:
    from bertwright.model.encoder import HeadType
    from bertwright.model.task_model import Problem

TASKS: dict[str, type[Task[Any]]] = {
    "classify": Classify,
    "regress": Regress,
    "tag": Tag,
    "answer": Answer,
    "choose": Choose,
    "rank": Rank,
}
"""Every task with a head, by the word that follows `bertwright finetune`."""
WITHOUT_HEAD = ("translate", "embed")
"""What else may follow it: translate writes texts, and embed gives vectors."""
BY_HEAD: dict[HeadType, type[Task[Any]]] = {"token": Tag, "span": Answer, "choice": Choose}
"""The tasks that are known by the type of their head."""
BY_PROBLEM: dict[Problem, type[Task[Any]]] = {task.problem: task for task in (Classify, MultiLabel, Regress)}
"""The tasks about rows, by what Hugging Face calls the kind of their loss."""
TASK = "task"
"""The extra setting by which a task is found whose head is not enough."""


def task_names() -> tuple[str, ...]:
    """Return everything that may follow `bertwright finetune`."""
    return (*TASKS, *WITHOUT_HEAD)


def task_named(name: str, head: HeadConfig | None = None) -> type[Task[Any]]:
    """Return a task by its name, and by the `head` asked for; raises UsageError where there is none."""
    if name not in TASKS:
        raise UsageError(f"there is no task {name!r}; the tasks are {', '.join(task_names())}")
    task = TASKS[name]
    if head is None or task is not Classify:
        return task
    return MultiLabel if head.multi_label else ClassifyLong if head.windows else task


def task_of_head(
    head_type: HeadType, problem: Problem, labels: Sequence[str], extra_config: Mapping[str, Any]
) -> Task[Any]:
    """Return the task of a trained model: the type of its head, the kind of its loss, its outputs by name.

    `extra_config` are the settings of the task in the model's folder, its name among them where the head is not enough.
    Raises ModelError where no task has such a head, or that name.
    """
    name = extra_config.get(TASK)
    if KEPT in extra_config and name == Classify.name:
        return ClassifyLong.from_labels(labels, extra_config)
    if name is None:
        return kind_of_head(head_type, problem).from_labels(labels, extra_config)
    if not isinstance(name, str) or name not in TASKS:
        raise ModelError(f"the model was trained for a task {str(name)[:50]!r}, which is not known here")
    return TASKS[name].from_labels(labels, {key: extra_config[key] for key in extra_config if key != TASK})


def config_to_keep(task: Task[Any]) -> dict[str, Any]:
    """Return what a model's folder keeps of its task, so that `task_of_head` finds it again."""
    kept = task.extra_config
    return kept if kind_of_head(task.head_type, task.problem) is type(task) else {**kept, TASK: task.name}


def kind_of_head(head_type: HeadType, problem: Problem) -> type[Task[Any]]:
    """Return the task that has such a head, as of a model of another make; raises ModelError where none does."""
    of_rows = BY_PROBLEM.get(problem) if isinstance(problem, str) else None
    kind = of_rows if head_type == "row" else BY_HEAD.get(head_type) if isinstance(head_type, str) else None
    if kind is None:
        raise ModelError(
            f"no task has a head about {head_type!r} of the kind {problem!r}; export or fine-tune the model again"
        )
    return kind
