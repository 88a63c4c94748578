"""The main job: turns a DATA folder into a RUN folder with a pre-trained model that stock transformers loads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from bertwright.device import float32_products
from bertwright.errors import UsageError
from bertwright.files import read_json
from bertwright.flags import with_flags
from bertwright.log import note
from bertwright.model.random_state import kept_random_state
from bertwright.nested import merge
from bertwright.planning.shapes import shape_warnings
from bertwright.result import Result
from bertwright.train.callbacks.track import require_tracker
from bertwright.train.checkpoint.extend import extended
from bertwright.train.checkpoint.resume import last_checkpoint, launched_before, require_same, resumed, run_identity
from bertwright.train.setup.assemble import build
from bertwright.train.setup.evaluator import open_beside
from bertwright.train.setup.init_from import open_start, require_start
from bertwright.train.setup.own_vocabulary import own_vocabulary_figures
from bertwright.train.setup.pretrain_config import resolve, resume_settings, switched_off
from bertwright.train.setup.step_parts import settle_parts
from bertwright.verbs.calls.plan_file import planned_run
from bertwright.verbs.calls.pretrain_flags import PretrainCall, PretrainFlags, more_of, pretrain_settings
from bertwright.verbs.calls.pretrain_preview import preview_run
from bertwright.verbs.calls.pretrain_training import begin_folder, finish, train_watched
from bertwright.verbs.calls.run_folder import data_settings, open_checked, require_free, working


@with_flags("pretrain", PretrainCall, PretrainFlags)
@kept_random_state()
def pretrain(
    data: Path | str | Sequence[Path | str] | None = None,
    out: Path | str | None = None,
    *,
    plan: Path | str | None = None,
    mixture: str | Sequence[float] | None = None,
    recipe: Path | str | None = None,
    init_from: Path | str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[PretrainFlags],
) -> Result:
    """Pre-train a BERT on prepared data and write a RUN folder; return what result.json holds.

    With `init_from` it goes on from that model; with `resume` and a duration such as steps="+1000" a finished run is
    made longer. The flags, which are those of the command line, are laid over the recipe, as `settings` are, nested as
    in its TOML, e.g. {"schedule": {"decay": "cosine"}}. A `dry_run` returns settings, sizes and disk.

    >>> pretrain("data", "run", size="mini", minutes=20)["valid"]["mlm_loss"]  # takes 20 minutes  # doctest: +SKIP
    3.43

    Raises
    ------
    UsageError
        For an invalid call; BusyError where another process works in `out`, and DataError, ModelError or
        DiskSpaceError, before anything is written; later DiskSpaceError where the disk fills up, TrainingError where
        going back to an earlier state did not help, and Interrupted on Ctrl-C or SIGTERM, both after a checkpoint is
        saved.
    """
    began = time.perf_counter()
    given, more = more_of(flags)
    settings = merge(pretrain_settings(given), settings or {})
    if plan is not None:
        recipe, settings, data, outlook = planned_run(Path(plan), data, settings, recipe=recipe, init_from=init_from)
        note(outlook)
    if data is None or out is None:
        raise UsageError("name the data and the folder of the run: give --data and --out")
    data, folders = data_settings(data, mixture)
    settings = merge(folders, settings)
    out, start = Path(out), None if init_from is None else open_start(init_from, data)
    recipe = str(recipe or ("classic-fast" if start is None else "adapt"))
    restarted = launched_before(out)
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")
    if more is not None and not resume:
        raise UsageError(f"{more} makes a finished run longer: give --resume with it; a new run has --{more.unit} N")
    resume = resume or (restarted and (out / "config.toml").is_file())
    settings = settings if start is None else merge(settings, start.settings(settings))
    config = resume_settings(out, settings) if resume else resolve(recipe, settings)
    saved = resume_settings(out, {}) if resume else config
    if more is not None and not restarted:
        config = extended(out, config, more)
    require_tracker(config.engine.track)
    with working(out, config, writes=not dry_run) as group:
        anew = not (resume or restarted) and group.is_main
        if anew:
            needed = [*config.folders(data), *config.engine.files, *([] if start is None else [start.folder])]
            require_free(out, needed, overwrite=overwrite)
        if dry_run:
            return preview_run(data, out, config, group, start=start, resumes=resume)
        dataset = open_checked(config.folders(data), config.data.shares, group)
        checkpoint = last_checkpoint(out, (config if more else saved).schedule, group) if resume else None
        fresh = checkpoint is None
        if fresh:
            require_start(dataset, config, start)
        beside = open_beside(config, dataset)
        state, loader, objective, engine = build(dataset, config, start=start, fresh=fresh, group=group)
        if fresh and start is not None:
            beside = replace(beside, own=own_vocabulary_figures(start, dataset, config, engine))
        identity = run_identity(dataset, config, precision=engine.precision)
        require_same(identity, group)
        good = resumed(checkpoint, state, identity, config.schedule, group=group) if checkpoint else None
        config = settle_parts(config, state, loader, objective, engine)
        if group.is_main:
            begin_folder(out, dataset, config, state, engine, clear=anew and overwrite)
        for warning in shape_warnings(loader.shape, device=engine.device.type) if fresh and start is None else ():
            note(warning)
        if not resume and (off := switched_off(recipe, settings)):
            note(off)
        if resume and checkpoint is None:
            note(f"{out} holds no checkpoint yet: its run starts again from the beginning")
        with float32_products(config.engine.precision, engine.device):
            peak = train_watched(
                out, dataset, config, state, loader, objective, engine, beside=beside, identity=identity, good=good,
                began=began,
            )  # fmt: skip
        figures = finish(out, dataset, config, state, engine, beside=beside, peak=peak)
        group.wait()
        return figures or Result(read_json(out / "result.json"))
