"""Tells by its files what a folder is: DATA, a RUN and of which task, a checkpoint of one, a study, or a MODEL."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bertwright.errors import InputError, UsageError
from bertwright.nested import read_toml


def kind_of_folder(thing: Path) -> str:
    """Return "data", "shard", "run", "study", "checkpoint" or "model"; raises InputError where it is none of them."""
    if thing.is_file() and thing.suffix == ".arrow":
        return "shard"
    if (thing / "config.toml").is_file():
        return "run"
    if (thing / "study.json").is_file():
        return "study"
    if (thing / "position.json").is_file():
        return "checkpoint"
    if (thing / "config.json").is_file() or (thing / "modules.json").is_file():
        return "model"
    if (thing / "manifest.json").is_file():
        return "data"
    what = "does not exist" if not thing.exists() else "holds nothing bertwright makes"
    raise InputError(f"{thing} {what}; give a DATA folder, a shard (.arrow), a RUN folder, a study or a MODEL folder")


def run_folders(given: Sequence[Path | str]) -> list[Path]:
    """Return the folders to watch; raises UsageError or InputError where one is no RUN folder."""
    folders = [Path(one) for one in given]
    for folder in folders:
        if (kind := kind_of_folder(folder)) != "run":
            raise UsageError(f"{folder} is a {kind} folder; watch shows RUN folders of pretrain, finetune or distill")
    return folders


def task_of_run(run: Path) -> str | None:
    """Return the task of a fine-tuning run, as its config.toml has it; None where it is one of pre-training."""
    task = read_toml(run / "config.toml").get("task")
    return task if isinstance(task, str) else None
