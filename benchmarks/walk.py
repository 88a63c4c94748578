"""Prints the functions of ours that data passes through, from the command line to the loss or to a metric.

    python benchmarks/walk.py --data data                              pretrain: from DATA folders to the loss
    python benchmarks/walk.py --model run/model --train train.tsv      finetune classify: from a table to a metric

It makes a tiny run, and notes who was being called at the moment each parcel was made: of pretrain, the Dataset and its
shards when the run starts, then the Batch, the MaskedBatch and the Loss of a step; of finetune, the table and its rows,
then the batch and its logits in a step, then the figures on dev. A function counts once; the model is one function,
whatever its layers are. docs/architecture.md holds the lists.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType

import bertwright
from bertwright.cli.main import main

PACKAGE = Path(bertwright.__file__).parent
Place = tuple[str, str]
"""A file and a function."""


@dataclass(frozen=True)
class Part:
    """A part of a walk: the function it begins with, one it goes through, and where its parcels are made."""

    title: str
    begins: Place
    parcels: frozenset[Place]
    through: Place | None = None


LOOP = ("train/loop.py", "train")
PRETRAIN = (
    Part(
        "at the start",
        ("cli/pretrain.py", "pretrain_command"),
        frozenset({("corpus/shards.py", "open"), ("data/pretraining/batches.py", "__init__")}),
    ),
    Part(
        "each step",
        ("verbs/calls/pretrain_training.py", "train_watched"),
        frozenset(
            {
                ("data/pretraining/batches.py", "read"),
                ("objectives/mlm.py", "corrupt"),
                ("model/encoder.py", "forward"),
                ("objectives/mlm.py", "loss"),
            }
        ),
        through=LOOP,
    ),
)
FINETUNE = (
    Part(
        "at the start",
        ("cli/finetune.py", "finetune_command"),
        frozenset({("corpus/readers/table.py", "read_table"), ("tasks/text_encoder.py", "rows")}),
    ),
    Part(
        "each step",
        ("train/task_setup/seeds.py", "train_seeds"),
        frozenset({("data/labelled/rows_of_labels.py", "batch"), ("model/task_model.py", "forward")}),
        through=LOOP,
    ),
    Part(
        "at the end",
        ("train/task_setup/trained.py", "evaluate_trained"),
        frozenset({("model/task_model.py", "forward"), ("tasks/metrics.py", "classification_figures")}),
    ),
)
OPTIONS = {
    "pretrain": [
        "--size", "tiny", "--steps", "1", "--recipe", "classic-fast", "--batch-size", "4", "--seq-length", "32",
        "--engine.compile", "false", "--engine.evaluations", "1",
    ],
    "finetune": ["--epochs", "1", "--batch-size", "8"],
}  # fmt: skip
"""What makes the run of each verb a tiny one."""


def place_of(frame: FrameType) -> Place | None:
    """Return file and function of a frame, where it is a function of ours: no comprehension or lambda."""
    path, name = Path(frame.f_code.co_filename), frame.f_code.co_qualname
    if not path.is_relative_to(PACKAGE) or name.endswith(">"):
        return None
    return path.relative_to(PACKAGE).as_posix(), name.replace(".<locals>", "")


def stack_of(frame: FrameType | None) -> list[Place]:
    """Return the functions of ours that are being called, the outermost first."""
    stack: list[Place] = []
    while frame is not None:
        stack += [found] if (found := place_of(frame)) else []
        frame = frame.f_back
    return stack[::-1]


def measure(call: Sequence[str], parts: Sequence[Part]) -> list[list[Place]]:
    """Return what the data passes through in each part of a call, in the order of the calls; callbacks are left out."""
    found: list[dict[Place, None]] = [{} for _ in parts]
    parcels = frozenset[Place]().union(*(part.parcels for part in parts))

    def note(frame: FrameType, event: str, _: object) -> None:
        place = place_of(frame) if event == "call" else None
        parcel = (place[0], place[1].split(".")[-1]) if place is not None else None
        if parcel not in parcels:
            return
        stack = stack_of(frame)
        number = max((number for number, part in enumerate(parts) if part.begins in stack), default=0)
        part = parts[number]
        through = part.through is None or part.through in stack
        if parcel in part.parcels and through and not any("on_step" in name for _, name in stack):
            found[number].update(dict.fromkeys(stack[stack.index(part.begins) :]))

    with tempfile.TemporaryDirectory() as scratch:
        sys.setprofile(note)
        try:
            code = main([*call, "--out", str(Path(scratch) / "run"), *OPTIONS[call[0]]])
        finally:
            sys.setprofile(None)
    if code:
        raise SystemExit(code)
    return [list(places) for places in found]


def show(title: str, places: list[Place]) -> None:
    """Print the functions of each file, in their order, as rows of a table."""
    print(f"{title}: {len(places)}")
    for file, functions in groupby(places, key=lambda place: place[0]):
        print(f"| `{file}` | {' '.join(f'`{name}`' for _, name in functions)} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a DATA folder, for the walk of pretrain")
    parser.add_argument("--model", help="a MODEL folder, for the walk of finetune")
    parser.add_argument("--train", help="a table of texts and classes")
    options = parser.parse_args()
    if options.data is None and (options.model is None or options.train is None):
        parser.error("give --data, or --model and --train")
    if options.data is not None:
        walk, words = PRETRAIN, ["pretrain", "--data", options.data]
    else:
        walk, words = FINETUNE, ["finetune", "classify", "--model", options.model, "--train", options.train]
    for part, places in zip(walk, measure(words, walk), strict=True):
        show(part.title, places)
