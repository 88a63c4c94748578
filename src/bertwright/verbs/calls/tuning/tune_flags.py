"""Declares the flags of `tune` beside those of `finetune`, for the command line and Python alike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Required, TypedDict

from bertwright.errors import UsageError
from bertwright.flags import Sets, dashed
from bertwright.verbs.calls.finetune_flags import FinetuneFlags, finetune_settings
from bertwright.verbs.calls.pretrain_flags import PretrainFlags, pretrain_settings

PRETRAIN = "pretrain"
"""The word that stands in the place of a task where pre-training is tuned."""
SHARED = PretrainFlags.__annotations__.keys() & FinetuneFlags.__annotations__.keys() - {"epochs"}
"""Flags of `finetune` that mean the same to `tune pretrain`."""
SEARCHED = ("epochs", "batch_size", "learning_rate", "layer_decay", "freeze_layers", "dropout")
"""Flags of `finetune` whose settings are searched, where they are not given."""


class TuneCall(TypedDict, total=False):
    """What a call of `tune` names beside the settings that all trials share."""

    out: Required[Path]
    """Folder of the study: study.db, report.html, recipe.toml, and the winner's run in OUT/winner. The same command
    again goes on with a study that was stopped, or works on it beside another process."""
    model: list[Path]
    """Model folder to start from. Given several times, the search chooses among them too."""
    train: Path
    """Labelled examples, as for finetune."""
    dev: Annotated[Path, Sets(default="a fraction of the training file, by a hash of its texts")]
    """Examples that trials are compared by."""
    test: Path
    """Examples that are looked at once, at the end, with the winner."""
    data: list[Path]
    """pretrain: folder that `bertwright prepare` made. Given several times, rows of all are mixed."""
    size: Annotated[str, Sets(default="searched")]
    """pretrain: the size of all trials, such as mini."""
    recipe: Annotated[Path, Sets(default="none; pretrain classic-fast")]
    """TOML file of settings that all trials share; of pretrain also the name of a recipe."""
    minutes: Annotated[float, Sets(default="30")]
    """Time of the study, for everything: reading, measuring, trials, running the best of them again, and the seeds of
    the winner. Where a study is done, more minutes than before go on with it."""
    num_seeds: Annotated[int, Sets(default="3; pretrain 1")]
    """Seeds that the winner is trained with at the end; none of them was in the search."""
    folds: Annotated[int, Sets(default="none")]
    """Cut the training file into so many folds, such as 5, and evaluate each trial on all of them, in place of a dev
    file: for a few hundred examples."""
    processes: Annotated[int, Sets(default="1")]
    """Processes that search, with an equal part of the cores each."""
    trials: Annotated[int, Sets(default="as many as there is time for")]
    """End the search after so many trials."""
    overwrite: bool
    """Replace the study in OUT."""
    dry_run: bool
    """Write nothing: read and measure; show what is searched, and how the time is divided."""


def tune_settings(task: str, flags: Mapping[str, Any], *, size: str | None = None) -> dict[str, Any]:
    """Return the settings that all trials share, of flags of FinetuneFlags; raises UsageError where one has no use."""
    if task != PRETRAIN:
        if size is not None:
            raise UsageError(f"--size is for pretrain; a model of {task} has the size of its folder, so leave it out")
        return finetune_settings(task, flags)
    odd = next((name for name, value in flags.items() if value is not None and name not in SHARED), None)
    if odd is not None:
        raise UsageError(f"{dashed(odd)} is for tasks; tune pretrain has no use for it, so leave it out")
    return pretrain_settings({**flags, "size": size})
