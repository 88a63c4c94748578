"""The verb `verify`: recomputes every checksum of a folder, reloads it, and compares what its model says."""

from __future__ import annotations

from pathlib import Path


def verify_command(thing: Path, /) -> None:
    """Check that a DATA, RUN or MODEL folder is whole: checksums, reloading, and a model's outputs for fixed tokens.

    Example of its use:
        bertwright verify runs/en

    Prints a table of what was checked; ends with 1, and a sentence saying what is wrong, where anything is. Nothing is
    changed.

    Parameters
    ----------
    thing
        A DATA folder, a RUN folder (its checkpoints, metrics and model), or a MODEL folder that bertwright wrote.
    """
    from bertwright.verbs.verify import verify

    verify(thing)
