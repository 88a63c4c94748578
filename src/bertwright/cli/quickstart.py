"""The verb `quickstart` at the terminal."""

from __future__ import annotations

from pathlib import Path

from bertwright.cli.terminal.command import prints
from bertwright.result import Result


@prints
def quickstart_command(*, out: Path = Path("quickstart"), minutes: float = 4.0) -> Result:
    """Train a small BERT on the documentation of your own Python, offline, in under five minutes.

    For example:
        bertwright quickstart --out quickstart

    Parameters
    ----------
    out
        Folder for the prepared data (OUT/data) and the run (OUT/run).
    minutes
        Minutes of training; preparation and evaluation come on top. Half a minute is enough for a first look; under
        two minutes nothing is compiled.
    """
    from bertwright.verbs.quickstart import quickstart

    return quickstart(out, minutes=minutes)
