"""Measures training on this machine: steps of pre-training and of a task, and a whole run beside a peer's model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bertwright.data.pretraining.dataset import open_dataset
from bertwright.device import float32_products, pick_device
from bertwright.errors import UsageError
from bertwright.log import note
from bertwright.model.encoder import parameter_count
from bertwright.objectives.base import Objective
from bertwright.reports.html_report import write_report
from bertwright.result import Result
from bertwright.system import tune_malloc
from bertwright.train.auxiliary import encoder_of
from bertwright.train.callbacks.base import Callback, StepReport
from bertwright.train.loop import train as train_steps
from bertwright.train.setup.assemble import build, compiled_loss, peak_flops
from bertwright.train.setup.kernels_in_use import attention_in_use
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.train.task_setup.by_task import set_up
from bertwright.train.task_setup.finetune_config import resolve_finetune
from bertwright.verbs.calls.held_out_rows import LENGTH
from bertwright.verbs.calls.measuring.bench_result import bench_result
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.pretrain import pretrain

SKIPPED = 5
"""First steps left out of every figure: caches fill, and the machine finds its pace."""


@tune_malloc()
def bench_step(
    data: Path | str,
    *,
    recipe: str = "fast",
    steps: int = 40,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> Result:
    """Measure training steps of a recipe's first phase on a DATA folder: tokens/s, MFU, and where the time goes.

    Tokens are real ones, padding not counted. MFU is useful floating-point operations (the MLM head at masked positions
    alone) over the matrix-product rate measured here with this model's largest block product.
    """
    over = dict(settings or {})
    first = resolve(recipe, over).schedule.phases[0].model_copy(update={"share": 1.0})
    timed = resolve(recipe, {**over, "schedule": {"steps": steps + SKIPPED}})
    # Not through the checks of a schedule: the first phase alone may be one that no run can end with.
    timed = timed.model_copy(update={"schedule": timed.schedule.model_copy(update={"phases": (first,)})})
    dataset = open_dataset(timed.folders(Path(data)), mixture=timed.data.shares)
    state, loader, objective, engine = build(dataset, timed, fresh=False)
    compiles = bool(timed.engine.compile)
    note(f"{timed.size}, {first.rows} rows of {first.length}, {engine.precision}{'; compiling' * compiles}")
    with float32_products(timed.engine.precision, engine.device):
        began = time.perf_counter()
        if compiles:
            engine.forward_loss = compiled_loss(state, loader, objective, engine, autotune=timed.engine.autotune)
        compiling = time.perf_counter() - began
        attention = attention_in_use(encoder_of(state.model), loader, engine, compiled=compiles)
        peak = peak_flops(loader, engine)
        marks = Marks()
        train_steps(state, loader, objective, [marks], engine=engine)
        (speed, work), seconds = marks.speed(), _time_by_part(state, loader, objective, engine)
        peak = max(peak, peak_flops(loader, engine))
    figures = {
        "what": f"{recipe}, {timed.model.architecture} {timed.size}, {first.rows} rows of {first.length}",
        "parameters": parameter_count(encoder_of(state.model)),
        "tokens_per_second": round(speed, 1),
        "mfu": round(work / peak, 4),
        "peak_flops": peak,
        "attention": attention,
        "compile_seconds": round(compiling, 1),
        "milliseconds": {name: round(1000 * value, 2) for name, value in seconds.items()},
    }
    shown = {
        "speed": f"{speed:,.0f} tokens/s",
        "MFU": f"{figures['mfu']:.0%} of {peak / 1e9:,.0f} GFLOP/s",
        "attention": attention,
        "compilation": f"{compiling:.0f} s" if compiles else "none: engine.compile is false",
        **{f"a step: {name}": f"{1000 * value:.1f} ms" for name, value in seconds.items()},
    }
    return bench_result(f"training step: {figures['what']}", figures, shown, engine.device, out)


@dataclass
class Marks(Callback):
    """Notes time, tokens, passes over the data and operations at each step; ends the run after `most` of them."""

    most: int | None = None
    seconds: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    epochs: list[float] = field(default_factory=list)
    flops: list[float] = field(default_factory=list)

    def on_step(self, report: StepReport) -> None:
        """Note them."""
        self.seconds.append(time.perf_counter())
        self.tokens.append(report.progress.tokens)
        self.epochs.append(report.progress.epochs)
        self.flops.append(report.sums["flops"])
        report.stop = len(self.seconds) == self.most

    def speed(self) -> tuple[float, float]:
        """Return tokens and useful floating-point operations a second, from the median step."""
        times = [after - before for before, after in pairwise(self.seconds[SKIPPED - 1 :])]
        tokens = (self.tokens[-1] - self.tokens[SKIPPED - 1]) / len(times)
        return tokens / median(times), median(self.flops) / median(times)


def _time_by_part(
    state: TrainState, loader: PretrainLoader, objective: Objective, engine: Engine, turns: int = 10
) -> dict[str, float]:
    """Return median seconds of each part of a step of one micro-batch."""
    seconds: dict[str, list[float]] = {}
    forward_loss = engine.forward_loss_at(0, state.model, objective)

    def timed(name: str, work: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        value = work(*arguments, **options)
        if engine.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.setdefault(name, []).append(time.perf_counter() - began)
        return value

    for turn in range(turns):
        batch = timed("draw", loader.draw, 0, turn)
        example = timed("mask", engine.example, objective, batch, step=turn, index=0, fraction=0.5)
        loss = timed("forward", forward_loss, example).total
        timed("backward", torch.autograd.backward, loss)
        timed("clip", torch.nn.utils.clip_grad_norm_, state.model.parameters(), engine.clip_norm)
        for optimizer in state.optimizers:
            timed(type(optimizer).__name__, optimizer.step)
        state.model.zero_grad(set_to_none=True)
    return {name: median(values) for name, values in seconds.items()}


@tune_malloc()
def bench_finetune(
    task: str,
    *,
    model: Path | str,
    train: Path | str,
    steps: int = 40,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> Result:
    """Measure fine-tuning steps of a task on the examples of a file, from a MODEL folder: examples/s and MFU.

    The first steps of a run as `finetune` would make it with these settings, whose lengths differ: the figure is of all
    of them together, the time of compiling not counted. Nothing is evaluated.
    """
    file = Path(train)
    setup = set_up(resolve_finetune(task, settings or {}), Path(model), {"train": file, "dev": file})
    network = setup.new_model(setup.config.seed)
    began = time.perf_counter()
    state, objective, engine = setup.begin(network, setup.config.seed)
    compiling = time.perf_counter() - began
    peak = setup.peak_flops()
    loader, marks = setup.loader(setup.config.seed), Marks(most=steps + SKIPPED)
    network.train()
    train_steps(state, loader, objective, [marks], engine=engine)
    if len(marks.seconds) < SKIPPED + 2:
        raise UsageError(f"{file} makes {len(marks.seconds)} steps, too few to measure; give more or --schedule.epochs")
    seconds = marks.seconds[-1] - marks.seconds[SKIPPED - 1]
    rows = (marks.epochs[-1] - marks.epochs[SKIPPED - 1]) * loader.rows_per_epoch(0)
    flops = sum(marks.flops[SKIPPED:])
    peak = max(peak, setup.peak_flops())
    figures = {
        "what": f"finetune {task} from {model}, {setup.config.batches.rows} examples a step, {setup.precision}",
        "examples_per_second": round(rows / seconds, 1),
        "mfu": round(flops / seconds / peak, 4),
        "setup_seconds": round(compiling, 1),
    }
    shown = {
        "speed": f"{figures['examples_per_second']:,.1f} examples/s",
        "MFU": f"{figures['mfu']:.0%} of {peak / 1e9:,.0f} GFLOP/s",
        "setup, compilation if any": f"{compiling:.0f} s",
    }
    return bench_result(str(figures["what"]), figures, shown, setup.device, out)


def bench_pretrain(
    data: Path | str,
    *,
    peer: Path | str,
    run: Path | str,
    recipe: str = "fast",
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> Result:
    """Pre-train in the folder `run`, and evaluate it beside the MODEL folder of a peer on the same held-out text.

    Both are evaluated by `evaluate mlm` on whole masked words (15%, 80/10/10), whatever they were trained on. The
    figures say whether the budget of the run was enough to reach the peer. Where the peer's folder has a metrics.jsonl
    beside it, the report of the run draws both curves.
    """
    theirs = evaluate("mlm", peer, data, length=LENGTH, num_rows=1024, whole_word=True)
    trained = pretrain(data, run, recipe=recipe, settings=settings)
    write_report(Path(run), peer=Path(peer).parent)
    ours = evaluate("mlm", Path(run) / "model", data, length=LENGTH, num_rows=1024, whole_word=True)
    figures = {
        "what": f"{recipe} for {trained['seconds'] / 60:.1f} minutes beside {peer}",
        "minutes": round(trained["seconds"] / 60, 2),
        "ours": ours,
        "peer": theirs,
        "reached": ours["mlm_loss"] <= theirs["mlm_loss"],
    }
    shown = {
        "ours": f"{ours['mlm_loss']:.3f} nats, {ours['mlm_accuracy']:.1%}",
        "peer": f"{theirs['mlm_loss']:.3f} nats, {theirs['mlm_accuracy']:.1%}",
        "the peer is reached": "yes" if figures["reached"] else "no",
    }
    return bench_result(str(figures["what"]), figures, shown, pick_device(), out)
