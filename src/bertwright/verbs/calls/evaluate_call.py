"""Checks a call of `evaluate` before anything is opened: a kind that is known, and flags that it has a use for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bertwright.errors import ModelError, UsageError

HELD_OUT = ("mlm", "nsp", "sop")
"""Kinds that are evaluated on rows of a DATA folder."""
KINDS = (*HELD_OUT, "minimal-pairs")


def check_evaluate(
    kind: str,
    model: Path,
    columns: Mapping[str, Any],
    rows: Mapping[str, Any],
    *,
    positive: str | None,
    against: Path | str | None,
    errors: bool = False,
) -> None:
    """Raise UsageError or ModelError for a call that cannot be done.

    `rows` are the flags about rows of a DATA folder, by name, None where not given.
    """
    from bertwright.tasks.by_name import TASKS, task_names
    from bertwright.tasks.tagging.task import Tag

    if kind not in KINDS and kind not in task_names():
        raise UsageError(f"nothing called {kind!r} can be evaluated; known: {', '.join((*KINDS, *task_names()))}")
    if not model.is_dir():
        raise ModelError(f"there is no model folder {model}; give the folder `pretrain` wrote as RUN/model")
    if against is not None and kind in KINDS:
        raise UsageError(f"--against compares models of a task; {kind} has no use for it, so leave it out")
    if errors and (kind not in TASKS or against is not None):
        beside = "together with --against" if against is not None else f"of {kind}"
        raise UsageError(
            f"--errors shows slices of classify, regress, rank, tag, answer and choose, not {beside}; leave it out"
        )
    if positive is not None and kind not in TASKS:
        raise UsageError(f"--positive is for classify of two classes; {kind} has no use for it, so leave it out")
    if columns.get("label_names") and kind != Tag.name:
        raise UsageError(f"--label-names is for tag; {kind} has no use for it, so leave it out")
    if kind in HELD_OUT:
        return
    used = ("num_rows",) if kind == "minimal-pairs" else ()
    for name, value in rows.items():
        if value is not None and name not in used:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} is about rows of a DATA folder; {kind} has no use for it, so leave it out")
