"""Turns the words of a call of `tune` into what each process of its study works by, checked against one another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bertwright.errors import UsageError
from bertwright.system import wanted_threads
from bertwright.verbs.calls.tuning.tune_flags import PRETRAIN


@dataclass(frozen=True)
class StudyCall:
    """A call of `tune`, its settings resolved.

    settings  nested, what all trials share
    seeds     that the winner is trained with
    threads   of each process of the search
    """

    task: str
    out: str
    models: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    recipe: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    minutes: float = 30.0
    seeds: int = 3
    folds: int = 0
    processes: int = 1
    trials: int | None = None
    threads: int = 1

    def to_json(self) -> str:
        """Return it as a line for another process."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, line: str) -> StudyCall:
        """Return what `to_json` wrote."""
        return cls(**json.loads(line))

    @property
    def device(self) -> str:
        """The device that its settings ask for."""
        return str(self.settings.get("engine", {}).get("device", "auto"))


def study_call(
    task: str,
    settings: Mapping[str, Any],
    *,
    out: Path | str,
    model: Path | str | Sequence[Path | str],
    data: Path | str | Sequence[Path | str],
    recipe: Path | str | None,
    minutes: float,
    num_seeds: int | None,
    folds: int,
    processes: int,
    trials: int | None,
    files: Mapping[str, Path | str | None],
) -> StudyCall:
    """Return a call whose words are checked against one another; raises UsageError."""
    models, folders = ([str(one)] if isinstance(one, (str, Path)) else list(map(str, one)) for one in (model, data))
    pretrains = task == PRETRAIN
    seeds = (1 if pretrains else 3) if num_seeds is None else num_seeds
    named = {name: str(file) for name, file in files.items() if file}
    for flag, value, least in (("--num-seeds", seeds, 1), ("--processes", processes, 1), ("--trials", trials, 1)):
        if value is not None and value < least:
            raise UsageError(f"{flag} {value} makes no study; give {least} or more")
    if not minutes > 0:
        raise UsageError(f"--minutes {minutes:g} is no time; give 30, or more for large files")
    if folds and (folds < 2 or "dev" in named):
        why = "is no cross-validation; give 5" if folds < 2 else "takes dev from the training file; leave --dev out"
        raise UsageError(f"--folds {folds} {why}")
    if len(set(models)) < len(models):
        raise UsageError("--model names a folder twice; give each once")
    if pretrains and (models or named or folds or not folders):
        raise UsageError("tune pretrain takes --data DATA, and no --model, --train, --dev, --test and --folds")
    if not pretrains and (not models or "train" not in named or folders):
        raise UsageError(f"tune {task} takes --model MODEL, as often as you like, and --train FILE, and no --data")
    return StudyCall(
        task=task, out=str(out), models=tuple(models), files=named, data=tuple(folders), recipe=str(recipe or ""),
        settings=settings, minutes=minutes, seeds=seeds, folds=folds, processes=processes, trials=trials,
        threads=max(1, wanted_threads() // processes),
    )  # fmt: skip
