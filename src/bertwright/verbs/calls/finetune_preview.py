"""Says what a call of `finetune` would do, and how much disk it would take, without writing anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from bertwright.files import clear_output, free_space, human_bytes, refuse_existing
from bertwright.log import print_facts, results
from bertwright.model.encoder import parameter_count
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.transfer import trained_count
from bertwright.verbs.calls.pretrain_folder import RUN_FILES

TASK_FILES = (*RUN_FILES, "seeds", "*-predictions.jsonl")
"""What the folder of a fine-tuning run holds."""
COPIES = 5
"""Numbers a checkpoint and the model take for each weight: weights, two moments, the best ones, and the model."""


def require_free_folder(out: Path, needed: Iterable[Path], *, overwrite: bool, clear: bool = False) -> None:
    """Raise OutputExistsError where the folder of a new run is taken; with `overwrite` `clear` deletes an old run."""
    if overwrite:
        clear_output(out, ours=TASK_FILES, needed=needed, dry_run=not clear)
    else:
        instead = "give another --out, --resume to go on with an interrupted run in it, or --overwrite to replace it"
        refuse_existing(out, instead=instead)


def preview_task(setup: TaskSetup, out: Path, *, seeds: int) -> dict[str, Any]:
    """Return and print what a run would be: its settings, model, examples, steps and disk."""
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
    results().print(tomli_w.dumps(plan["settings"]), markup=False, highlight=False, soft_wrap=True)
    facts = {
        "model": f"{setup.folder}: {plan['parameters']:,} parameters, {trained:,} of them trained",
        "examples": ", ".join(f"{count:,} {name}" for name, count in examples.items()),
        "run": f"{schedule.amount:,.0f} {schedule.unit} of up to {config.batches.rows} examples"
        f"{f', {seeds} times' if seeds > 1 else ''}",
        "learning rate": f"{config.optimizer.learning_rate:g}, warm-up {config.schedule.warmup:.0%}",
        "device": f"{setup.precision} on {setup.device}",
        "disk": f"about {human_bytes(plan['disk_bytes'])} of {human_bytes(plan['free_bytes'])} free",
    }
    print_facts(f"dry run: finetune {setup.task.name} would write {out}", facts)
    return plan
