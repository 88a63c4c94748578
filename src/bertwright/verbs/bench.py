"""Measures how fast this machine does a stage: figures as a table, and as JSON with machine and versions.

Speeds are medians over whole steps or best of several turns, stated with each figure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Unpack

from bertwright.errors import UsageError
from bertwright.flags import settings_of_flags, with_flags
from bertwright.nested import merge
from bertwright.result import Result
from bertwright.verbs.calls.measuring.bench_flags import BenchFlags

Stage = Literal["step", "prepare", "pretrain", "finetune", "predict"]
NEEDED: dict[str, dict[str, str]] = {
    "step": {"data": "DATA"},
    "prepare": {"tokenizer": "DIR"},
    "pretrain": {"data": "DATA", "peer": "DIR", "run": "RUN"},
    "finetune": {"model": "DIR", "train": "FILE"},
    "predict": {"model": "DIR"},
}
"""Flags that a stage cannot do without."""
TAKEN: dict[str, tuple[str, ...]] = {
    "step": ("recipe", "size", "steps", "out"),
    "prepare": ("language", "out"),
    "pretrain": ("recipe", "size", "minutes", "out"),
    "finetune": ("steps", "out"),
    "predict": ("input", "encoding", "sentences", "turns", "out"),
}
"""Flags that it takes beside them."""


@with_flags("bench", BenchFlags)
def bench(
    what: Stage,
    inputs: Sequence[Path | str] | Path | str = (),
    *,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[BenchFlags],
) -> Result:
    """Measure how fast this machine does a stage; return the figures, with machine and versions.

    Nothing else should run on the machine meanwhile.

    Parameters
    ----------
    what
        step: training steps, tokens/s, utilisation, where the time goes. prepare: MB/s, peak memory, disk.
        pretrain: a whole run, evaluated beside a peer's model. finetune: steps of a task, examples/s. predict:
        sentences/s in float32, as `predict` does and exported, side by side; of a pre-trained model, fill-mask.
    inputs
        For prepare: the INPUT files, folders or globs. For finetune: the task.
    settings
        For step, pretrain and finetune: nested settings of the recipe or the run.

    Raises
    ------
    UsageError
        Where a stage lacks what it needs, or is given what it does not take.
    """
    words = [str(word) for word in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    of_flags = settings_of_flags(BenchFlags, flags)
    given: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    _refuse(what, words, given, settings=bool(settings))
    measured = {name: value for name, value in given.items() if name not in of_flags and name != "minutes"}
    if what == "prepare":
        from bertwright.verbs.calls.measuring.bench_prepare import bench_prepare

        return bench_prepare(words, **measured)
    if what == "predict":
        from bertwright.verbs.calls.measuring.bench_predict import bench_predict

        return bench_predict(**measured)
    from bertwright.verbs.calls.measuring.bench_training import bench_finetune, bench_pretrain, bench_step

    merged = merge(dict(settings or {}), of_flags)
    if what == "finetune":
        return bench_finetune(words[0], **measured, settings=merged)
    return (bench_step if what == "step" else bench_pretrain)(**measured, settings=merged)


def _refuse(what: str, words: Sequence[str], given: Mapping[str, Any], *, settings: bool) -> None:
    """Raise UsageError where a stage lacks what it needs, or is given what it does not take."""
    if what not in NEEDED:
        raise UsageError(f"bench has no stage {what!r}; give one of {', '.join(NEEDED)}")
    if what == "prepare" and not words:
        raise UsageError("bench prepare needs an INPUT: a file, a folder or a glob")
    if what == "finetune" and not words:
        raise UsageError("bench finetune needs a task, such as: bertwright bench finetune classify ...")
    for name, value in NEEDED[what].items():
        if name not in given:
            raise UsageError(f"this needs --{name} {value}; see bertwright bench --help")
    if (settings and what in ("prepare", "predict")) or (words and what in ("step", "pretrain", "predict")):
        raise UsageError(f"bench {what} takes no {'settings' if settings else repr(words[0])}; leave that out")
    for name in given.keys() - {*NEEDED[what], *TAKEN[what]}:
        raise UsageError(f"bench {what} takes no --{name}; leave it out")
