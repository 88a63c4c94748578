"""Turns a large model into a small one that answers nearly as well: a student learns from one teacher or several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from bertwright.distillation.task_inputs import DistillInputs
from bertwright.errors import UsageError
from bertwright.flags import with_flags
from bertwright.model.random_state import kept_random_state
from bertwright.nested import merge
from bertwright.result import Result
from bertwright.types import listed
from bertwright.verbs.calls.distilling.distill_flags import PRETRAIN, DistillCall, DistillFlags, distill_settings
from bertwright.verbs.calls.distilling.pretrain_distillation import distill_pretrain
from bertwright.verbs.calls.distilling.task_distillation import RunCall, distill_task


@with_flags("distill", DistillCall, DistillFlags)
@kept_random_state()
def distill(
    task: str,
    teacher: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    data: Path | str | None = None,
    train: Path | str | None = None,
    dev: Path | str | None = None,
    test: Path | str | None = None,
    text: Path | str | Sequence[Path | str] = (),
    student: Path | str | None = None,
    num_seeds: int = 1,
    int8: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[DistillFlags],
) -> Result:
    """Train a small student from a teacher and write a RUN folder; return what result.json holds.

    The flags are those of the command line; `settings` are nested as in RUN/config.toml, those of the distillation
    under "distill". The student in RUN/model is a Hugging Face folder as any other. Of a task, `sides` in the result
    holds the figures, size and speed of teacher, student and, with `int8`, the student in 8-bit integers.

    >>> # trains
    >>> distill("classify", "runs/sst2/model", "runs/small", train="train.tsv", layers=4)["kept"]  # doctest: +SKIP
    0.98

    Parameters
    ----------
    task
        pretrain, or a task with logits: classify, regress, tag, answer, choose, rank; not translate or embed.

    Raises
    ------
    UsageError
        For an invalid call; ModelError for a teacher of another kind, other labels or other tokens, InputError for
        files that do not fit, all before anything is written; Interrupted on Ctrl-C, after a checkpoint is saved.
    """
    settings = merge(distill_settings(task, flags), settings or {})
    teachers, texts = tuple(map(Path, listed(teacher, what="teachers"))), tuple(map(Path, listed(text)))
    files = {name: Path(file) for name, file in {"train": train, "dev": dev, "test": test}.items() if file}
    check_call(task, teachers, data=data, files=files, texts=texts, seeds=num_seeds, int8=int8)
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")
    if dev is not None and "split" in settings:
        raise UsageError("--dev and --dev-fraction cannot both be given; leave one out")
    inputs = DistillInputs(teachers, None if student is None else Path(student), files, texts)
    call = RunCall(Path(out), num_seeds, resume=resume, overwrite=overwrite, dry_run=dry_run, int8=int8)
    if task == PRETRAIN:
        return distill_pretrain(Path(str(data)), inputs, call, settings)
    return distill_task(task, inputs, call, settings)


def check_call(
    task: str,
    teachers: Sequence[Path],
    *,
    data: Path | str | None,
    files: Mapping[str, Path],
    texts: Sequence[Path],
    seeds: int,
    int8: bool,
) -> None:
    """Raise UsageError where a call lacks something, or names what its kind has no use for."""
    if not teachers:
        raise UsageError("no teacher was given; name one with --teacher MODEL")
    if len({teacher.resolve() for teacher in teachers}) < len(teachers):
        raise UsageError("--teacher names a model twice; give it once")
    if seeds < 1:
        raise UsageError(f"--num-seeds {seeds} trains nothing; give 1 or more")
    if task != PRETRAIN:
        if data is not None:
            raise UsageError("--data is for pretrain; a task is learned from --train FILE, --text FILE, or both")
        return
    if data is None:
        raise UsageError("pretrain needs text: give --data DATA, prepared with the teacher's tokenizer")
    if files or texts or seeds > 1 or int8:
        odd = [f"--{name}" for name in files] + ["--text"] * bool(texts) + ["--num-seeds"] * (seeds > 1)
        raise UsageError(f"{(*odd, '--int8')[0]} is for a task; pretrain learns from --data, so leave it out")
    if len(teachers) > 1:
        raise UsageError("pretrain learns from the states of one model; give one --teacher")
