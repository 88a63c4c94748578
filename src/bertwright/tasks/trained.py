"""Tells the task of a trained model from its head; imports no torch, so that an exported model is asked without it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bertwright.tasks.classify import Classify
from bertwright.tasks.contract import Task
from bertwright.tasks.regress import Regress
from bertwright.tasks.tag import Tag


def task_of_head(part: str, problem: str, labels: Sequence[str]) -> Task[Any]:
    """Return the task of a trained model: what its head is about, the kind of its loss, and its outputs by name."""
    if part == "token":
        return Tag.of_labels(labels)
    return (Regress if problem == "regression" else Classify).of_labels(labels)
