"""Turns reports into a progress bar on a terminal, and into plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.progress import Progress, TaskID

from bertwright.log import note, person_reads, progress_bar
from bertwright.train.callbacks.base import Callback, StepReport

PLAIN_EVERY = 30.0
"""Seconds between two plain lines where there is no terminal."""


@dataclass
class ConsoleCallback(Callback):
    """Shows time left, loss, tokens/s, MFU, padding and waiting, from the last line of metrics in the notes."""

    names: Callable[[Mapping[str, float]], Mapping[str, str]] | None = None
    """Which held-out figures are shown, and as what; all of them by their keys where not given."""
    bar: Progress = field(default_factory=lambda: progress_bar("figures"))
    task: TaskID | None = None
    figures: str = ""
    plain_at: float = field(default_factory=time.perf_counter)

    def on_step(self, report: StepReport) -> None:
        """Show one report."""
        if (line := report.notes.get("line")) and "loss" in line:
            self.figures = (
                f"step {line['step']:,}  loss {line['loss']:.3f}  "
                f"{line['tokens_per_second']:,.0f} tokens/s  MFU {line['mfu']:.0%}{shares_shown(line)}"
            )
        compiling = f"  compiling for {report.notes['compiling']:.0f} s" if "compiling" in report.notes else ""
        if person_reads():
            if self.task is None:
                self.bar.start()
                self.task = self.bar.add_task("training", total=1.0, figures="")
            self.bar.update(self.task, completed=report.fraction, figures=self.figures + compiling)
        elif self.figures and (time.perf_counter() - self.plain_at > PLAIN_EVERY or report.last):
            self.plain_at = time.perf_counter()
            note(f"{report.fraction:4.0%}  {self.figures}  {minutes_left(report):.1f} min left{compiling}")
        if valid := report.notes.get("valid"):
            names = {name: name for name in valid} if self.names is None else self.names(valid)
            shown = "  ".join(f"{name} {valid[key]:.3f}" for key, name in names.items())
            shown += "".join(f"  {name} {value:.1%}" for name, value in report.notes.get("probes", {}).items())
            (self.bar.console.print if self.task is not None else note)(
                f"held out at step {report.progress.step:,}: {shown}"
            )
        if "diagnosis" in report.notes:
            (self.bar.console.print if self.task is not None else note)(str(report.notes["diagnosis"]))

    def close(self) -> None:
        """Take the bar off the terminal."""
        self.bar.stop()


def shares_shown(line: Mapping[str, Any]) -> str:
    """Return the padding and the waiting for data of a line of metrics, as far as it knows them.

    >>> shares_shown({"padding": 0.0471, "waiting": 0.0012})
    '  padding 5%  waiting for data 0%'
    """
    known = {"padding": "padding", "waiting": "waiting for data"}
    return "".join(f"  {name} {line[key]:.0%}" for key, name in known.items() if key in line)


def minutes_left(report: StepReport) -> float:
    """Return about how many minutes are left, at the speed since the first step."""
    spent = report.progress.seconds - report.progress.setup_seconds
    return spent * (1 - report.fraction) / max(report.fraction, 1e-9) / 60
