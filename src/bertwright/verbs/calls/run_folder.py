"""Holds the folder of a run for the processes that share it, and says whether a new run may take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bertwright.device import on_device
from bertwright.errors import ConfigError
from bertwright.files import clear_output, locked, map_os_errors, refuse_existing
from bertwright.log import silent
from bertwright.train.parallel.group import Group, init_distributed
from bertwright.train.setup.pretrain_config import PretrainConfig

RUN_FILES = (
    "config.toml", "manifest.json", "metrics.jsonl", "result.json", "report.html", "checkpoints", "model", "model-nsp",
    "snapshots", "track.json", "tensorboard", "wandb", "mlruns",
)  # fmt: skip
"""What the folder of a run holds."""
TASK_FILES = (*RUN_FILES, "seeds", "*-predictions.jsonl")
"""What that of a fine-tuning run holds."""


@contextmanager
def working(out: Path, config: PretrainConfig, *, writes: bool) -> Iterator[Group]:
    """Yield the processes of a run, on the device of its settings; rank 0 logs, and holds the folder it writes."""
    with (
        init_distributed(timeout=config.engine.timeout) as group,
        silent(not group.first),
        held(out, locks=group.first) if writes else nullcontext(),
        on_device(config.engine.device),
    ):
        if group.size > 1 and ":" in config.engine.device:
            raise ConfigError(
                f"--device {config.engine.device} would put {group.size} processes on one GPU; give --device cuda"
            )
        yield group


def require_free(
    out: Path, needed: Iterable[Path], *, overwrite: bool, clear: bool = False, files: Sequence[str] = RUN_FILES
) -> None:
    """Raise OutputExistsError where the folder of a new run is taken; `overwrite` and `clear` delete an old run there.

    `needed` is what the new run reads, `files` are the names that an old run may hold.
    """
    if overwrite:
        clear_output(out, ours=files, needed=needed, dry_run=not clear)
    else:
        refuse_existing(out, instead="give another --out, --resume to go on with the run, or --overwrite to replace it")


@contextmanager
def held(out: Path, *, locks: bool) -> Iterator[None]:
    """Hold the folder of a run, in the process that `locks` it, and say in a sentence what cannot be written there."""
    saved = ", then go on with --resume: the last whole checkpoint is untouched"
    with locked(out) if locks else nullcontext(), map_os_errors(out, saved=saved):
        yield
