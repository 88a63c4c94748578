"""Prints the functions of ours that the data of `pretrain` passes through, from the command line to the loss.

    python benchmarks/walk.py --data data

It makes one step of a tiny run, and notes who was being called at the moment each parcel was made: the Dataset and its
shards when the run starts; then, for the step, the Batch, the MaskedBatch and the Loss. A function counts once; the
model between MaskedBatch and Scores is one function, whatever its layers are. docs/architecture.md holds the list.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from types import FrameType

import bertwright
from bertwright.cli.main import main

PACKAGE = Path(bertwright.__file__).parent
CALL = [
    "--size", "tiny", "--steps", "1", "--recipe", "classic-fast", "--batch-size", "4", "--seq-length", "32",
    "--engine.compile", "false", "--engine.evaluations", "1",
]  # fmt: skip
AT_START = {("corpus/shards.py", "open"), ("data/pretraining/batches.py", "__init__")}
EACH_STEP = {
    ("data/pretraining/batches.py", "read"), ("objectives/mlm.py", "corrupt"), ("model/encoder.py", "forward"),
    ("objectives/mlm.py", "loss"),
}  # fmt: skip
"""Where parcels are made, by file and function."""
FIRST = "cli/pretrain.py", "pretrain_command"
RUN, LOOP = ("verbs/calls/pretrain_training.py", "train_watched"), ("train/loop.py", "train")

Place = tuple[str, str]


def place_of(frame: FrameType) -> Place | None:
    """Return file and function of a frame, where it is a function of ours: no comprehension or lambda."""
    path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
    if not path.is_relative_to(PACKAGE) or name.endswith(">"):
        return None
    return path.relative_to(PACKAGE).as_posix(), name.replace(".<locals>", "")


def measure(data: Path) -> tuple[list[Place], list[Place]]:
    """Return what the data passes through when a run starts, and in each step, in the order of the calls."""
    start: dict[Place, None] = {}
    step: dict[Place, None] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        place = place_of(frame) if event == "call" else None
        if place is None or (place[0], place[1].split(".")[-1]) not in AT_START | EACH_STEP:
            return
        stack: list[Place] = []
        caller: FrameType | None = frame
        while caller is not None:
            stack += [found] if (found := place_of(caller)) else []
            caller = caller.f_back
        stack.reverse()
        parcel = place[0], place[1].split(".")[-1]
        if LOOP in stack and parcel in EACH_STEP and not any("on_step" in name for _, name in stack):
            step.update(dict.fromkeys(stack[stack.index(RUN) :]))
        elif RUN not in stack and parcel in AT_START:
            start.update(dict.fromkeys(stack[stack.index(FIRST) :]))

    with tempfile.TemporaryDirectory() as scratch:
        sys.setprofile(note)
        try:
            code = main(["pretrain", "--data", str(data), "--out", str(Path(scratch) / "run"), *CALL])
        finally:
            sys.setprofile(None)
    if code:
        raise SystemExit(code)
    return list(start), list(step)


def show(title: str, places: list[Place]) -> None:
    """Print the functions of each file, in their order, as rows of a table."""
    print(f"{title}: {len(places)}")
    for file, functions in groupby(places, key=lambda place: place[0]):
        print(f"| `{file}` | {' '.join(f'`{name}`' for _, name in functions)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a DATA folder")
    at_start, each_step = measure(parser.parse_args().data)
    show("at the start", at_start)
    show("each step", each_step)
