"""Writes what `plan` found as a file, and reads it again for `pretrain --plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from bertwright.errors import InputError, UsageError
from bertwright.files import write_text
from bertwright.nested import merge, read_toml
from bertwright.planning.options import Option
from bertwright.train.schedule import UNITS, Phase
from bertwright.verbs.calls.plan_flags import Budget


def write_plan(
    file: Path,
    option: Option,
    budget: Budget,
    *,
    recipe: str,
    data: Path | None,
    phases: Sequence[Phase],
    settings: Mapping[str, Any],
) -> None:
    """Write what `pretrain --plan` needs, and, in [plan], what is expected of the run."""
    schedule = {"minutes": budget.minutes, "phases": [phase.model_dump() for phase in phases]}
    run: dict[str, Any] = {"extends": recipe, "size": option.size, "schedule": schedule}
    if option.accumulation > 1:
        run["engine"] = {"accumulation": option.accumulation}
    figures = {name: value for name, value in asdict(option).items() if name not in ("size", "warnings")}
    plan = {**({} if data is None else {"data": str(data.resolve())}), "machine": budget.machine, **figures}
    write_text(file, tomli_w.dumps({**merge(settings, run), "plan": plan}))


def read_plan(file: Path) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Return recipe, settings and what is expected, of a file that `plan` wrote; raises InputError for another."""
    how = f"make one with bertwright plan --hours 3 --out {file}"
    if not file.is_file():
        raise InputError(f"there is no plan {file}; {how}")
    settings = read_toml(file)
    plan, recipe = settings.pop("plan", None), settings.pop("extends", None)
    whole = isinstance(plan, dict) and {"loss", "interval", "machine"} <= plan.keys() and "schedule" in settings
    if not whole or not isinstance(recipe, str):
        raise InputError(f"{file} is no plan; {how}")
    return recipe, settings, plan


def planned_run(
    file: Path,
    data: Path | str | Sequence[Path | str] | None,
    settings: Mapping[str, Any],
    *,
    recipe: Path | str | None,
    init_from: Path | str | None,
) -> tuple[str, dict[str, Any], Path | str | Sequence[Path | str] | None, str]:
    """Return recipe, settings and data of a run by a plan, where a call of `pretrain` does not say otherwise.

    And what the plan expects, as a sentence. Raises UsageError where the call has a recipe or a model to go on from,
    for which the plan was not made.
    """
    if recipe is not None or init_from is not None:
        name = "--recipe" if recipe is not None else "--init-from"
        raise UsageError(f"{name} and --plan exclude each other: the plan names its recipe, and begins a new model")
    recipe, planned, plan = read_plan(file)
    if any(unit in settings.get("schedule", {}) for unit in UNITS):
        planned = {**planned, "schedule": {name: one for name, one in planned["schedule"].items() if name != "minutes"}}
    low, high = plan["interval"]
    interval = f"({low:.2f} to {high:.2f})" if plan.get("known") else "(a guess)"
    outlook = f"the plan expects a held-out loss of {plan['loss']:.2f} {interval} on {plan['machine']}"
    return recipe, merge(planned, settings), data or plan.get("data"), outlook
