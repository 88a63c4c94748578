"""Turns a training step of 2 and 4 processes into a timeline: when gradients are computed, and when they are sent.

    PYTHONPATH=src python benchmarks/overlap.py DATA --out results/overlap

Each process trains recipe fast, size mini, 16 rows, one thread, over gloo. Before: the step is compiled whole, as for
one process; inside DDP, torch compiles it again and cuts it where buckets end. After: each block, the head and the loss
are compiled for themselves. Times are those of rank 0 in the shortest step, from its begin: when each piece of the
backward pass ends, and when each bucket is handed over and has come back. Where there are more processes than cores,
and messages take cores too, order is what is shown, not speed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from bertwright.data.pretraining.dataset import open_dataset
from bertwright.device import machine
from bertwright.train.parallel.group import Group, init_distributed
from bertwright.train.parallel.wrap import replicated
from bertwright.train.setup.assemble import build, compiled_loss, compiled_parts
from bertwright.train.setup.pretrain_config import resolve

ROWS, LENGTH, STEPS, FIRST = 16, 128, 12, 4
WAYS = {"whole": "compiled whole, cut at buckets inside DDP (before)", "parts": "compiled in parts (after)"}


class Watch:
    """Notes when gradients are computed and buckets are under way, from the begin of a step."""

    def __init__(self, model: nn.Module, group: Group) -> None:
        """Watch the parameters of `model`."""
        self.group, self.began = group, 0.0
        self.names = {id(p): ".".join(n.split(".")[: 2 if "blocks" in n else 1]) for n, p in model.named_parameters()}
        self.computed: list[dict[str, Any]] = []
        self.buckets: list[dict[str, float]] = []

    def begin(self) -> None:
        """Begin a step, together with the other processes."""
        self.group.wait()
        self.computed, self.buckets, self.began = [], [], time.perf_counter()

    def now(self) -> float:
        """Return the milliseconds since then."""
        return 1000 * (time.perf_counter() - self.began)

    def follow(self, loss: Tensor) -> None:
        """Note when each piece of the backward pass from `loss` ends, and whose gradients it computes."""
        met, ahead = set(), [loss.grad_fn]
        while ahead:
            node = ahead.pop()
            if node is None or node in met or hasattr(node, "variable"):
                continue
            met.add(node)
            following = [one for one, _ in node.next_functions]
            ahead += following
            held = {self.names[id(one.variable)] for one in following if hasattr(one, "variable")}
            node.register_hook(partial(self._ended, " ".join(sorted(held))))

    def _ended(self, what: str, *_: object) -> None:
        self.computed.append({"end": self.now(), "gradients": what})

    def send(self, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        """Send a bucket as DDP does by itself, and note when."""
        line = {"begin": self.now(), "megabytes": bucket.buffer().numel() * 4 / 2**20}
        self.buckets.append(line)
        sent = dist.all_reduce(bucket.buffer().div_(self.group.size), async_op=True).get_future()

        def back(future: Any) -> Tensor:
            line["end"] = self.now()
            found: Tensor = future.value()[0]
            return found

        return sent.then(back)


def covered(lines: list[dict[str, float]], until: float) -> float:
    """Return the milliseconds before `until` in which at least one bucket was under way."""
    total, reached = 0.0, 0.0
    for line in sorted(lines, key=lambda line: line["begin"]):
        begin, end = max(line["begin"], reached), min(line["end"], until)
        total, reached = total + max(0.0, end - begin), max(reached, end)
    return total


def worker(data: Path, way: str, out: Path) -> None:
    """Train some steps as one of several processes; rank 0 writes the timeline of the shortest."""
    with init_distributed(timeout=1800) as group:
        torch.set_num_threads(1)
        phases = [{"length": LENGTH, "rows": ROWS * group.size, "share": 1.0}]
        config = resolve("fast", {"size": "mini", "schedule": {"steps": 1000, "phases": phases}})
        dataset = open_dataset(config.folders(data), mixture=config.data.shares)
        state, loader, objective, engine = build(dataset, config, fresh=False, group=group)
        made = (compiled_loss if way == "whole" else compiled_parts)(state, loader, objective, engine)
        assert made is not None
        ddp, _ = replicated(state.model, made, all_used=True)
        assert isinstance(ddp, DistributedDataParallel)
        watch = Watch(state.model, group)
        ddp.register_comm_hook(None, lambda _, bucket: watch.send(bucket))
        found: list[dict[str, Any]] = []
        for step in range(STEPS):
            (example,) = engine.examples(objective, loader.work(0, step), step=step, of=1, fraction=0.1)
            watch.begin()
            loss = ddp(example).total
            watch.follow(loss)
            forward = watch.now()
            loss.backward()
            found.append({"forward": forward, "end": watch.now(), "pieces": watch.computed, "buckets": watch.buckets})
            state.model.zero_grad(set_to_none=True)
        group.wait()
        if group.is_main:
            best = min(found[FIRST:], key=lambda one: one["end"])
            computed = max(piece["end"] for piece in best["pieces"])
            best["pieces"] = [piece for piece in best["pieces"] if piece["gradients"]]
            sent = covered(best["buckets"], best["end"])
            best |= {"computed": computed, "sent": sent, "hidden": covered(best["buckets"], computed) / sent}
            out.write_text(json.dumps(rounded(best | machine(engine.device)), indent=1) + "\n", encoding="utf-8")
        os._exit(0)  # threads that still let go of Python's objects would be waited for with Python's lock held


def rounded(value: Any) -> Any:
    """Return figures with three places at most, in whatever holds them."""
    if isinstance(value, dict):
        return {name: rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def draw(found: dict[str, dict[str, Any]], file: Path) -> None:
    """Draw one row of bars a timeline: the backward pass by block above, the buckets below."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(found), 1, figsize=(9, 2.1 * len(found)), layout="constrained", squeeze=False)
    for axis, (title, one) in zip(axes[:, 0], found.items(), strict=True):
        begin = one["forward"]
        for place, piece in enumerate(one["pieces"]):
            end, name = piece["end"], piece["gradients"].replace("blocks.", "")
            axis.barh(1, end - begin, left=begin, height=0.8, color=f"C{place % 10}", alpha=0.75)
            if end - begin > 0.04 * (one["end"] - one["forward"]):
                axis.text((begin + end) / 2, 1, name, ha="center", va="center", fontsize=7)
            begin = end
        for place, line in enumerate(one["buckets"]):
            axis.barh(0.4 - 0.09 * place, line["end"] - line["begin"], left=line["begin"], height=0.07, color="black")
        axis.set_title(f"{title}: {one['hidden']:.0%} of the time of messages is behind the backward pass", fontsize=9)
        axis.set_yticks([1, 0], ["computed", "sent"])
        axis.set_xlim(one["forward"], one["end"] * 1.01)
    axes[-1, 0].set_xlabel("milliseconds since the step began (the forward pass is left out)")
    figure.savefig(file, dpi=110)


def main() -> None:
    """Run every way in a torchrun of its own; write overlap.json, beside what is there of others, and overlap.png."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("data", type=Path)
    words.add_argument("--out", type=Path, required=True)
    words.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    words.add_argument("--way", choices=WAYS, help="what one process of several does; not for people")
    given = words.parse_args()
    if given.way:
        worker(given.data, given.way, given.out)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "overlap.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for count in given.processes:
        for way, title in WAYS.items():
            file = given.out / f"{way}-{count}.json"
            launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}", __file__]
            command = [sys.executable, *launch, str(given.data), "--way", way, "--out", str(file)]
            subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
            found[f"{count} processes, {title}"] = json.loads(file.read_text(encoding="utf-8"))
            file.unlink()
            kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draw(found, given.out / "overlap.png")


if __name__ == "__main__":
    main()
