"""Turns how often texts find their pair in training into a warning that random others teach them nothing more."""

from __future__ import annotations

from dataclasses import dataclass

from bertwright.log import note
from bertwright.train.callbacks.base import Callback, StepReport

FROM, UNTIL = 0.1, 0.3
"""Fractions of the run between which is counted: the model has settled, and there is time to begin anew."""
TOO_OFTEN = 0.98
"""From this fraction of texts on that find their pair, the gradient is next to nothing."""


@dataclass
class TooEasyCallback(Callback):
    """Warns once where nearly every text finds its pair among those of a step: random others teach little then."""

    rows: int
    right: float = 0.0
    count: float = 0.0
    warned: bool = False

    def on_step(self, report: StepReport) -> None:
        """Count, and say so when it is time."""
        if FROM <= report.fraction <= UNTIL:
            self.right += report.sums.get("embed_correct", 0.0)
            self.count += report.sums.get("embed_count", 0.0)
        elif report.fraction > UNTIL and not self.warned:
            self.warned = True
            if self.count and self.right / self.count >= TOO_OFTEN:
                note(
                    f"warning: {self.right / self.count:.1%} of texts find their pair among those of a step of "
                    f"{self.rows}, so the loss has little to teach: mine hard negatives (--hard-negatives 3), or give "
                    "a larger --batch-size"
                )
