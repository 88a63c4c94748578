"""Shows how far a search is: a bar with the time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from rich.progress import Progress, TaskID

from bertwright.log import note, person_reads, progress_bar
from bertwright.search.clock import StudyClock

PLAIN_EVERY = 30.0
"""Seconds between two lines where there is no terminal."""


@dataclass
class SearchConsole:
    """The progress of the whole study, over its time."""

    bar: Progress = field(default_factory=lambda: progress_bar("figures"))
    task: TaskID | None = None
    plain_at: float = field(default_factory=time.monotonic)

    def show(self, what: str, fraction: float, clock: StudyClock) -> None:
        """Show what is in work, how much of it is done, and how much of the study's time."""
        text = f"{what}: {fraction:.0%}"
        if person_reads():
            if self.task is None:
                self.bar.start()
                self.task = self.bar.add_task("tuning", total=clock.limit, figures="")
            self.bar.update(self.task, completed=min(clock.spent, clock.limit), figures=text)
        elif time.monotonic() - self.plain_at > PLAIN_EVERY:
            self.plain_at = time.monotonic()
            note(f"{text}; {clock.left / 60:.1f} min left")

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.bar.stop()
