"""Declares the flags of `plan`, for the command line and Python alike, and what a plan is made for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

from bertwright.errors import UsageError
from bertwright.flags import Sets

RECIPE = "classic-fast"
"""The recipe of the runs that the law was fitted on."""
LONGEST = 60 * 24 * 365.0
"""Minutes that a plan is made for at most: a year."""


class PlanCall(TypedDict, total=False):
    """What a call of `plan` names."""

    hours: float
    """How long the run may take."""
    minutes: float
    """The same in minutes."""
    data: Path
    """Folder that `bertwright prepare` made. Without one, the plan is for as much English text as the run can read,
    and steps are measured on the documentation of this Python."""
    recipe: Annotated[Path, Sets(default=RECIPE)]
    """Recipe of the run, by name or a TOML file. What loss to expect is known of classic-fast alone."""
    size: Annotated[str, Sets(default="the smallest whose expected loss is as good as the lowest")]
    """Plan for this size: tiny, mini, small, medium, base, large."""
    gpu: Annotated[str, Sets(default="this machine, measured for 30 seconds")]
    """Plan for a GPU of a table instead: t4, v100, rtx3090, rtx4090, a10, l4, l40s, a100-40gb, a100, h100-pcie, h100,
    h200, b200."""
    gpus: Annotated[int, Sets(default="1")]
    """How many of it."""
    price: Annotated[float, Sets(default="none")]
    """What an hour of the machine costs, or of one GPU: the plan then says what the run costs, in the same money."""
    out: Path
    """TOML file to write the plan to, for pretrain --plan."""


@dataclass(frozen=True)
class Budget:
    """What a plan is made for; raises UsageError where that is nothing.

    minutes  of the run
    price    of an hour of the machine or of one GPU, if given
    """

    minutes: float
    gpu: str | None
    gpus: int
    price: float | None

    def __post_init__(self) -> None:
        """Refuse what is no budget."""
        if not 0 < self.minutes <= LONGEST:
            raise UsageError(f"a plan for {self.minutes:g} minutes cannot be made; give --hours or --minutes above 0")
        if self.gpus < 1 or (self.gpus > 1 and self.gpu is None):
            raise UsageError(f"--gpus {self.gpus}: give a whole number of 1 or more, and --gpu with it, such as h100")
        if self.price is not None and self.price < 0:
            raise UsageError(f"--price {self.price:g} is below 0; give what an hour costs")

    @property
    def cost(self) -> float | None:
        """Return what the run costs, if the price is known."""
        return None if self.price is None else self.price * self.gpus * self.minutes / 60

    @property
    def machine(self) -> str:
        """Return the name of the machine of a plan."""
        return "the machine that made the plan" if self.gpu is None else f"{self.gpus} x {self.gpu}"


def budget_of(hours: float | None, minutes: float | None, *, gpu: str | None, gpus: int, price: float | None) -> Budget:
    """Return the budget of a call; raises UsageError where it names none, or two."""
    if (hours is None) == (minutes is None):
        raise UsageError("say how long the run may take: give --hours or --minutes, one of them")
    return Budget(60 * hours if hours is not None else minutes or 0.0, gpu, gpus, price)
