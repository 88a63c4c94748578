"""The verb `plan` at the terminal."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from bertwright.cli.terminal.command import prints
from bertwright.cli.terminal.overrides import parse_overrides
from bertwright.result import Result
from bertwright.verbs.calls.plan_flags import PlanCall


@prints
def plan_command(
    *overrides: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    call: Annotated[PlanCall | None, Parameter(name="*", negative="")] = None,
) -> Result:
    """Say which model a budget of time is best spent on, what loss to expect, and what it takes.

    For example:
        bertwright plan --hours 3 --data data/en --out plan.toml
        bertwright pretrain --plan plan.toml --out runs/en
        bertwright plan --hours 24 --gpu h100 --gpus 8 --price 2.50

    Steps of each size are measured on this machine, or a GPU's figures are read from a table. The loss to expect comes
    from a law that was fitted on our own runs, with its interval; outside their sizes and tokens it is marked as a
    guess. Settings of the recipe can be given as --SECTION.FIELD VALUE, as to pretrain.
    """
    settings = parse_overrides(overrides, verb="pretrain")
    from bertwright.verbs.plan import plan

    return plan(**(call or PlanCall()), settings=settings)
