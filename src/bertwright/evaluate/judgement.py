"""What judging a task gives: figures, a table of the task's own, and the worst mistakes; what reports are made of."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Mistake:
    """An answer that is wrong: the text, what was true, what was said, and how bad that is (larger is worse)."""

    text: str
    truth: str
    said: str
    badness: float


@dataclass(frozen=True)
class Grid:
    """A table of a task's own: a confusion matrix, or figures by entity type."""

    title: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Judgement:
    """How good answers are: figures by name, a table of its own where a task has one, and the worst mistakes."""

    figures: dict[str, float]
    grid: Grid | None = None
    mistakes: list[Mistake] = field(default_factory=list)
