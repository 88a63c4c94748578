"""The verb `quickstart`: the whole walk on the embedded corpus, in minutes."""

from __future__ import annotations

from pathlib import Path


def quickstart_command(*, out: Path = Path("quickstart"), minutes: float = 4.0) -> None:
    """Train a small BERT on the documentation of your own Python, offline, in under five minutes.

    Example:
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

    quickstart(out, minutes=minutes)
