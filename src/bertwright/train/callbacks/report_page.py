"""Has the page of a run written at its evaluations, so that one can look at it while it trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from bertwright.log import note
from bertwright.train.callbacks.base import Callback, StepReport

SHARE = 0.01
"""Fraction of a run's time that its page may take."""
FIRST = 1.0
"""Seconds that the first page is taken to need: it waits for what draws."""


@dataclass
class ReportCallback(Callback):
    """Calls `write()` after an evaluation, where the time for it is there; the last page is written when a run ends."""

    write: Callable[[], object]
    spent: float = 0.0
    last: float = FIRST

    def on_step(self, report: StepReport) -> None:
        """Write the page, if it is time; a picture that cannot be drawn is no reason to end a run."""
        if "valid" not in report.notes or report.last or self.spent + self.last > SHARE * report.progress.seconds:
            return
        began = time.perf_counter()
        try:
            self.write()
        except (ValueError, LookupError, ArithmeticError, TypeError, AttributeError) as error:
            note(f"warning: report.html was not written ({error!r})")
        self.last = time.perf_counter() - began
        self.spent += self.last
