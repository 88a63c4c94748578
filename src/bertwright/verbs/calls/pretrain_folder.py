"""Holds the folder of a run for the processes that share it, and says whether a new run may take it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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


@contextmanager
def working(out: Path, config: PretrainConfig, *, writes: bool) -> Iterator[Group]:
    """Yield the processes of a run, on the device of its settings; rank 0 logs, and holds the folder it writes."""
    with (
        init_distributed(timeout=config.engine.timeout) as group,
        silent(not group.first),
        held(out, group) if writes else nullcontext(),
        on_device(config.engine.device),
    ):
        if group.size > 1 and ":" in config.engine.device:
            raise ConfigError(
                f"--device {config.engine.device} would put {group.size} processes on one GPU; give --device cuda"
            )
        yield group


def require_free(out: Path, data: Sequence[Path], *, overwrite: bool, clear: bool = False) -> None:
    """Raise OutputExistsError where the folder of a run is taken; `overwrite` and `clear` delete an old run there."""
    if overwrite:
        clear_output(out, ours=RUN_FILES, needed=data, dry_run=not clear)
    else:
        refuse_existing(out, instead="give another --out, --resume to go on with the run, or --overwrite to replace it")


@contextmanager
def held(out: Path, group: Group) -> Iterator[None]:
    """Hold the folder of a run, by its first process, and say in a sentence what cannot be written there."""
    with (
        locked(out) if group.first else nullcontext(),
        map_os_errors(out, saved=", then go on with --resume: the last whole checkpoint is untouched"),
    ):
        yield
