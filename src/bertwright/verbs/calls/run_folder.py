"""Turns the folders of a call of `pretrain` into the data and the RUN folder that its processes share, both checked."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from math import isfinite
from pathlib import Path
from typing import Any

from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import check_shards
from bertwright.data.pretraining.dataset import Dataset, open_dataset
from bertwright.data.pretraining.mixture import SMALLEST_SHARE
from bertwright.device import on_device
from bertwright.errors import BertwrightError, ConfigError, DataError, UsageError
from bertwright.files import clear_output, human_bytes, locked, map_os_errors, refuse_existing
from bertwright.log import note, silent
from bertwright.train.parallel.group import Group, init_distributed
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.verbs.calls.pretrain_flags import shares_given

RUN_FILES = (
    "config.toml", "manifest.json", "metrics.jsonl", "result.json", "report.html", "checkpoints", "model", "model-nsp",
    "model-sop", "model-generator", "snapshots", "track.json", "tensorboard", "wandb", "mlruns",
)  # fmt: skip
"""What the folder of a run holds."""
TASK_FILES = (*RUN_FILES, "seeds", "folds", "*-predictions.jsonl", "suspects.jsonl")
"""What that of a fine-tuning run holds."""
LONG_CHECK = 5.0
"""Seconds of checking shards above which the run says how long it took."""


def data_settings(
    data: Path | str | Sequence[Path | str], mixture: str | Sequence[float] | None
) -> tuple[Path, dict[str, Any]]:
    """Return the first of the DATA folders of a call, and the settings that name the others and their weights.

    Raises UsageError where the weights do not fit the folders.
    """
    folders = [data] if isinstance(data, (str, Path)) else list(data)
    if not folders:
        raise UsageError("no DATA folder was given; name at least one with --data")
    weights = list(shares_given(mixture) or ())
    if weights and len(weights) != len(folders):
        there = "is 1" if len(folders) == 1 else f"are {len(folders)}"
        raise UsageError(
            f"--mixture gives {len(weights)} shares for DATA folders of which there {there}; "
            "give a share for each, in their order"
        )
    if any(not weight >= SMALLEST_SHARE * sum(weights) for weight in weights) or not all(map(isfinite, weights)):
        raise UsageError(
            f"--mixture {','.join(map(str, weights))}: each share must be {SMALLEST_SHARE:.1%} of all or more"
        )
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise UsageError("--data names a folder twice; give it once, with a larger share of --mixture")
    others = {"others": [str(folder) for folder in folders[1:]]} | ({"mixture": weights} if weights else {})
    return Path(folders[0]), {"data": others} if len(folders) > 1 else {}


@contextmanager
def working(out: Path, config: PretrainConfig, *, writes: bool) -> Iterator[Group]:
    """Yield the processes of a run, on the device of its settings; rank 0 logs, and holds the folder it writes."""
    with (
        init_distributed(timeout=config.engine.timeout) as group,
        silent(not group.is_main),
        held(out, locks=group.is_main) if writes else nullcontext(),
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


def open_checked(folders: Sequence[Path], mixture: Sequence[float], group: Group) -> Dataset:
    """Return the data of a run, its shards compared with their checksums, each process a part of them.

    Raises DataError in all processes where one of them finds something wrong. Says so where it took a while.
    """
    began, count, manifests, wrong = time.perf_counter(), 0, [], ""
    try:
        for folder in folders:
            manifests.append(read_manifest(folder))
            count += check_shards(folder, manifest=manifests[-1], rank=group.rank, processes=group.size)
    except (BertwrightError, OSError) as error:
        if group.size == 1:
            raise
        wrong = str(error) or type(error).__name__
    wrong = group.first_message(wrong)
    if wrong:
        failure = DataError(wrong)
        failure.quiet = not group.is_main
        raise failure
    total, seconds = group.total({"bytes": count})["bytes"], time.perf_counter() - began
    if seconds > LONG_CHECK:
        note(f"checked {human_bytes(total)} of shards in {seconds:.0f} s ({human_bytes(total / seconds)}/s)")
    return open_dataset(folders, mixture=mixture, manifests=manifests)
