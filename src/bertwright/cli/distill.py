"""The verb `distill` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.distilling.distill_flags import DistillCall, DistillFlags


@prints
def distill_command(
    task: str,
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    call: Annotated[DistillCall, Parameter(name="*", negative="")],
    flags: Annotated[DistillFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Train a small model that answers nearly as a large one does.

    For example:
        bertwright distill pretrain --teacher MODEL --data data/en --out runs/small --layers 4 --width 288 --minutes 30
        bertwright distill classify --teacher runs/sst2/model --student runs/small/model --train train.tsv --out runs/s4
        bertwright distill tag --teacher runs/ner/model --layers 4 --train train.conll --text more.txt --out runs/ner4

    Settings are also given as --SECTION.FIELD VALUE, such as --distill.relation-heads 24 or --optimizer.beta2 0.98.

    Parameters
    ----------
    task
        pretrain: a student of general use, from a pre-trained teacher and prepared text. classify, regress, tag,
        answer, choose or rank: a student of a task, from teachers fine-tuned for it.
    """
    settings = parse_overrides(overrides, verb="distill")
    from bertwright.verbs.distill import distill

    return distill(task, **call, settings=settings, **(flags or DistillFlags()))
