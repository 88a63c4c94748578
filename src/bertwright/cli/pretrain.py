"""The verb `pretrain` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.pretrain_flags import PretrainCall, PretrainFlags


@prints
def pretrain_command(
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    call: Annotated[PretrainCall, Parameter(name="*", negative="")],
    flags: Annotated[PretrainFlags | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Pre-train a BERT on prepared data.

    For example:
        bertwright pretrain --data data/en --out runs/en --size mini --minutes 20

    In several processes, on one machine or many (docs/distributed.md):
        torchrun --nproc-per-node 2 -m bertwright pretrain --data data/en --out runs/en --minutes 600

    Every setting of the recipe can be given as --SECTION.FIELD VALUE, for instance --objective.whole-word true or
    --schedule.decay cosine; `bertwright show classic-fast` lists them, and a wrong name is answered with the nearest
    right one.
    """
    settings = parse_overrides(overrides, verb="pretrain")
    from bertwright.verbs.pretrain import pretrain

    return pretrain(**call, settings=settings, **(flags or PretrainFlags()))
