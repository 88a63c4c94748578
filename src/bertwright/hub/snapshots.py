"""Names the models that a run was along the way, RUN/snapshots/step-N, and finds them in a folder."""

from __future__ import annotations

from pathlib import Path

SNAPSHOTS, PREFIX = "snapshots", "step-"
"""The folder beside RUN/model, and what the name of each model in it begins with."""


def snapshot_folder(folder: Path, step: int) -> Path:
    """Return the folder of the model after so many steps.

    >>> snapshot_folder(Path("run/snapshots"), 128).as_posix()
    'run/snapshots/step-128'
    """
    return folder / f"{PREFIX}{step}"


def snapshots_in(folder: Path) -> dict[int, Path]:
    """Return the model folders in RUN/snapshots by their steps, the first step first; none where it is not there."""
    steps = {one.name.removeprefix(PREFIX): one for one in folder.glob(f"{PREFIX}*")}
    return dict(sorted((int(step), one) for step, one in steps.items() if step.isdecimal()))
