"""Measures how long steps wait for checkpoints on a card, and how much of it a run takes."""

from __future__ import annotations

import shutil

from checkpoint_stall import measure_stall
from gpu_parts.part import GIGABYTE, Part


def stall(part: Part) -> None:
    """Train with checkpoints one after another and tell the share of the time that steps waited for them."""
    run = part.folder / "stalled"
    shutil.rmtree(run, ignore_errors=True)
    found = measure_stall(
        part.data, run, size=part.size("base"), minutes=0.1 if part.toy else 0.4, every=0.02 if part.toy else 0.1,
        recipe="classic", rows=16, compiled=False,
    )  # fmt: skip
    shutil.rmtree(run, ignore_errors=True)
    part.tell(stall=found)
    writing = found["median_step_while_writing"]
    part.cell(
        f"{found['size']}: time that steps wait for checkpoints", f"{found['stalled_share']:.2%}",
        also=f"{found['last_checkpoint_bytes'] / GIGABYTE:.2f} GB each; a step {found['median_step_otherwise']} s"
        + (f", while one is written {writing} s" if writing else ""),
    )  # fmt: skip
