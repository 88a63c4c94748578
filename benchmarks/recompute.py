"""Measures what one training step of a classifier takes with blocks kept and with blocks computed again: memory, time.

    python benchmarks/recompute.py --model DIR --rows 32 --length 512

Each way is a process of its own. One JSON line a way: rows, tokens of a row, peak memory above that of the loaded model
(bytes), seconds of a step (the second of two), and its loss, which is the same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch

from bertwright.hub.encoder_folder import read_model
from bertwright.model.task_model import FineTuned
from bertwright.tasks.classification.task import Classify
from bertwright.types import LabelledBatch


def peak() -> int:
    """Return the largest resident size of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measured(folder: Path, *, rows: int, length: int, recompute: bool) -> dict[str, object]:
    """Return what a step takes."""
    torch.manual_seed(0)
    model = FineTuned(read_model(folder)[0], head_type="row", outputs=2, dropout=0.1).train()
    model.encoder.recompute = recompute
    ids = torch.randint(1000, 2000, (rows, length))
    first = torch.zeros(rows, 1, dtype=torch.int64)
    batch = LabelledBatch(ids, ids * 0, ids > 0, first, torch.randint(0, 2, (rows, 1)))
    task, before, seconds, loss = Classify(("a", "b")), peak(), 0.0, 0.0
    for _ in range(2):
        began = time.perf_counter()
        torch.manual_seed(1)
        found = task.loss(model(batch), batch).total
        model.zero_grad()
        torch.autograd.backward(found)
        seconds, loss = time.perf_counter() - began, float(found.detach())
    return {
        "recompute": recompute,
        "rows": rows,
        "length": length,
        "bytes": peak() - before,
        "seconds": round(seconds, 3),
        "loss": round(loss, 6),
    }


def main() -> None:
    """Measure both ways, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--way", choices=["kept", "again"])
    given = parser.parse_args()
    if given.way is None:
        for way in ("kept", "again"):
            subprocess.run([sys.executable, __file__, *sys.argv[1:], "--way", way], check=True)
        return
    found = measured(given.model, rows=given.rows, length=given.length, recompute=given.way == "again")
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
