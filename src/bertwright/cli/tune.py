"""The verb `tune` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.finetune_flags import FinetuneFlags
from bertwright.verbs.calls.tuning.tune_flags import TuneCall


@prints
def tune_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    call: Annotated[TuneCall, Parameter(name="*", negative="")],
    flags: Annotated[FinetuneFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Search settings and models for a task within a limit of time, and train the best.

    For example:
        bertwright tune classify --model runs/en/model --train train.tsv --out studies/sentiment --minutes 30
        bertwright tune tag --model A --model B --train train.conll --folds 5 --processes 2 --out studies/names
        bertwright tune pretrain --data data/en --out studies/en --minutes 60

    The defaults are the first trial, and every trial is trained to the end of its schedule. What a flag fixes, such as
    --epochs 3 or --SECTION.FIELD VALUE, is the same in all trials and not searched. Needs bertwright[tune].

    Parameters
    ----------
    task
        classify, regress, tag, answer, choose, rank, translate, embed (see finetune), or pretrain: settings of short
        runs.
    """
    settings = parse_overrides(overrides, verb="tune")
    from bertwright.verbs.tune import tune

    return tune(task, **call, settings=settings, **(flags or FinetuneFlags()))
