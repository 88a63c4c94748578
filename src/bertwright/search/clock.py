"""Counts the seconds that a study has taken, over all its processes and sessions, against its limit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from optuna.study import Study

SECONDS = "seconds"
"""The attribute of a study that holds them."""
KEPT_EVERY = 5.0
"""Seconds between two times that they are written down: so much of a killed process is not counted."""


class OutOfTimeError(Exception):
    """The time of the search is up, in the middle of a run."""


@dataclass
class StudyClock:
    """The seconds of a study: those it had when this process came to it, and those since then.

    Processes that work at the same time count the same seconds, not each their own.
    """

    study: Study
    limit: float
    """Seconds of the whole study."""
    began: float = field(default_factory=time.perf_counter)
    """When this process began to count."""
    now: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        """Take over what is written down."""
        self._before = float(self.study.user_attrs.get(SECONDS, 0.0))
        self._kept = self.now()

    @property
    def spent(self) -> float:
        """Seconds that the study has taken."""
        return self._before + self.now() - self.began

    @property
    def left(self) -> float:
        """Seconds that it may still take."""
        return self.limit - self.spent

    def tick(self) -> None:
        """Write the seconds down, if it is time."""
        if self.now() - self._kept >= KEPT_EVERY:
            self.keep()

    def keep(self) -> None:
        """Write the seconds down; those of a process that came earlier may be more."""
        self._kept = self.now()
        self.study.set_user_attr(SECONDS, max(self.spent, float(self.study.user_attrs.get(SECONDS, 0.0))))
