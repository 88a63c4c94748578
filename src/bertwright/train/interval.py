"""Reads how often something is done in a run, in steps (500) or time (90s, 2min), and how much longer it is to be."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import AfterValidator

SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Interval:
    """A number of steps, or of seconds where that is None."""

    steps: int | None
    seconds: float = 0.0

    @classmethod
    def parse(cls, value: int | str) -> Self:
        """Return the interval of a number of steps, or of a time such as "2min"; raises ValueError.

        >>> Interval.parse("500").steps, Interval.parse("2min").seconds
        (500, 120.0)
        """
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value))
        number, unit = found.groups() if found else ("0", "")
        if unit in SECONDS and float(number) > 0:
            return cls(None, float(number) * SECONDS[unit])
        if not unit and number.isdigit() and int(number) > 0:
            return cls(int(number))
        raise ValueError("must be a number of steps, such as 500, or a time, such as 90s, 2min or 1h")

    def passed(self, *, steps: int, seconds: float) -> int:
        """Return how many intervals have ended after so many steps and so many seconds of training."""
        return steps // self.steps if self.steps is not None else int(seconds / self.seconds)


@dataclass(frozen=True)
class More:
    """How much longer a finished run is to be, in the unit it is measured in, such as 60 minutes."""

    unit: str
    amount: float

    def __str__(self) -> str:
        """Return the flag that asks for it."""
        return f"--{self.unit} +{self.amount:g}"


def _checked(value: int | str) -> int | str:
    Interval.parse(value)
    return value


Every = Annotated[int | str, AfterValidator(_checked)]
"""A setting that says how often, in steps or in time."""
