"""Says what a call of `finetune` would do, and how much disk it would take, without writing anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tomli_w

from bertwright.files import free_space, human_bytes
from bertwright.log import Facts, Lines
from bertwright.model.encoder import parameter_count
from bertwright.result import Result
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.transfer import trained_count

COPIES = 5
"""Numbers a checkpoint and the model take for each weight: weights, two moments, the best ones, and the model."""


def preview_task(setup: TaskSetup, out: Path, *, seeds: int) -> Result:
    """Return what a run would be: its settings, model, examples, steps and disk."""
    model, schedule = setup.new_model(setup.config.seed), setup.loader(setup.config.seed).schedule
    trained = trained_count(model)
    examples = {name: len(split.examples) for name, split in setup.splits.items()}
    config = setup.config
    plan: dict[str, Any] = {
        "settings": config.model_dump(mode="json", exclude_none=True),
        "parameters": parameter_count(model),
        "trained_parameters": trained,
        "examples": examples,
        "steps": schedule.steps,
        "seeds": seeds,
        "precision": setup.precision,
        "device": str(setup.device),
        "disk_bytes": 4 * COPIES * parameter_count(model) + 20_000_000,
        "free_bytes": free_space(out),
        "out": str(out),
    }
    facts = {
        "model": f"{setup.folder}: {plan['parameters']:,} parameters, {trained:,} of them trained",
        "examples": ", ".join(f"{count:,} {name}" for name, count in examples.items()),
        "run": f"{schedule.amount:,.0f} {schedule.unit} of up to {config.batches.rows} examples"
        f"{f', {seeds} times' if seeds > 1 else ''}"
        f"{f', and as often without one of {config.split.folds} folds' if config.split.folds else ''}",
        "learning rate": f"{config.optimizer.learning_rate:g}, warm-up {config.schedule.warmup:.0%}",
        "device": f"{setup.precision} on {setup.device}",
        "disk": f"about {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
    }
    title = f"dry run: finetune {setup.task.name} would write {out}"
    return Result(plan, Lines([tomli_w.dumps(plan["settings"])]), Facts(title, facts))
