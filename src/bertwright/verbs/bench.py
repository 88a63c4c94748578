"""Measures how fast this machine does each stage: figures as a table, and as JSON with machine and versions.

Speeds are medians over whole steps or best of several turns, stated with each figure; nothing here is a test.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch

from bertwright.device import machine, pick_device, versions
from bertwright.errors import CorpusError, UsageError
from bertwright.files import read_json, write_json
from bertwright.log import note, print_facts
from bertwright.model.encoder import parameter_count
from bertwright.reports.pretrain_html import write_report
from bertwright.system import peak_memory_of_children, tune_malloc
from bertwright.train.loop import Progress, train
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.setup.run import Parts, build, compiled_step, peak_flops
from bertwright.train.step import TrainStep
from bertwright.verbs.evaluate import evaluate
from bertwright.verbs.finetune import build_parts
from bertwright.verbs.own_run import LENGTH
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
) -> dict[str, Any]:
    """Measure training steps of a recipe's first phase on a DATA folder: tokens/s, MFU, and where the time goes.

    Tokens are real ones, padding not counted. MFU is useful floating-point operations (the MLM head at masked positions
    alone) over the matrix-product rate measured here with this model's largest block product.
    """
    over = dict(settings or {})
    first = resolve(recipe, over).schedule.phases[0]
    phases = [{"length": first.length, "rows": first.rows, "share": 1.0}]
    timed = resolve(recipe, {**over, "schedule": {"steps": steps + SKIPPED, "phases": phases}})
    parts = build(Path(data), timed, fresh=False)
    config = parts.config
    compiles = bool(config.engine.compile) and not parts.sharded
    note(f"{config.size}, {first.rows} rows of {first.length}, {parts.precision}{'; compiling' * compiles}")
    began = time.perf_counter()
    step = compiled_step(parts)
    compiling = time.perf_counter() - began
    peak = peak_flops(parts)
    (speed, work), seconds = _timed_steps(parts, step), _time_by_part(parts, step)
    peak = max(peak, peak_flops(parts))
    figures = {
        "what": f"{recipe}, {config.model.architecture} {config.size}, {first.rows} rows of {first.length}",
        "parameters": parameter_count(parts.model),
        "tokens_per_second": round(speed, 1),
        "mfu": round(work / peak, 4),
        "peak_flops": peak,
        "compile_seconds": round(compiling, 1),
        "milliseconds": {name: round(1000 * value, 2) for name, value in seconds.items()},
    }
    shown = {
        "speed": f"{speed:,.0f} tokens/s",
        "MFU": f"{figures['mfu']:.0%} of {peak / 1e9:,.0f} GFLOP/s",
        "compilation": f"{compiling:.0f} s" if compiles else "none: engine.compile is false",
        **{f"a step: {name}": f"{1000 * value:.1f} ms" for name, value in seconds.items()},
    }
    return _told(f"training step: {figures['what']}", figures, shown, parts.device, out)


def _timed_steps(parts: Parts, step: TrainStep) -> tuple[float, float]:
    """Return tokens and useful floating-point operations a second, from the median step."""
    marks: list[tuple[float, int]] = []
    flops: list[float] = []
    position = Progress(drawn=[0])
    schedule = parts.config.schedule
    accumulation = parts.config.engine.accumulation
    for _ in train(step, parts.sources, schedule, position=position, accumulation=accumulation):
        marks.append((time.perf_counter(), position.tokens))
        flops.append(position.window.pop("flops"))
    times = [after[0] - before[0] for before, after in zip(marks[SKIPPED - 1 :], marks[SKIPPED:], strict=False)]
    tokens = (marks[-1][1] - marks[SKIPPED - 1][1]) / len(times)
    return tokens / median(times), median(flops) / median(times)


def _time_by_part(parts: Parts, step: TrainStep, turns: int = 10) -> dict[str, float]:
    """Return median seconds of each part of a step of one micro-batch."""
    parts_of: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        began = time.perf_counter()
        value = work(*arguments)
        if parts.device.type == "cuda":
            torch.cuda.synchronize()
        parts_of.setdefault(name, []).append(time.perf_counter() - began)
        return value

    for turn in range(turns):
        batch = timed("draw", parts.sources[0].draw, turn)
        example = timed("mask", step.example, turn, 0, batch, 0.5)
        loss = timed("forward", step.forward_loss, example).total
        timed("backward", torch.autograd.backward, loss)
        timed("clip", torch.nn.utils.clip_grad_norm_, parts.model.parameters(), step.clip_norm)
        for optimizer in parts.optimizers:
            timed(type(optimizer).__name__, optimizer.step)
        parts.model.zero_grad(set_to_none=True)
    return {name: median(values) for name, values in parts_of.items()}


def bench_prepare(
    inputs: Sequence[str | Path], *, tokenizer: Path | str, language: str = "en", out: Path | None = None
) -> dict[str, Any]:
    """Measure the command `prepare` with a given tokenizer, into a folder that is deleted: MB/s, peak memory, disk.

    Whole command, in a process of its own: imports, survey, proof of the encoder and report included.
    """
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        words = [*(str(name) for name in inputs), "--tokenizer", str(tokenizer), "--language", language]
        began = time.perf_counter()
        told = subprocess.run(
            [sys.executable, "-m", "bertwright", "prepare", *words, "--out", str(data)], capture_output=True, text=True
        )
        seconds = time.perf_counter() - began
        if told.returncode:
            lines = told.stderr.strip().splitlines() or [f"prepare ended with exit code {told.returncode}"]
            raise CorpusError(lines[-1].removeprefix("bertwright: "))
        report = read_json(data / "report.json")
    text, disk = report["text_bytes"], report["shard_bytes"]
    memory = peak_memory_of_children()
    figures = {
        "what": f"prepare {' '.join(str(name) for name in inputs)}",
        "text_bytes": text,
        "seconds": round(seconds, 2),
        "megabytes_per_second": round(text / seconds / 1e6, 2),
        "megabytes_per_second_from_reading_to_shards": round(report["megabytes_per_second"], 2),
        "peak_memory_bytes": memory,
        "disk_bytes": disk,
    }
    shown = {
        "text": f"{text / 1e6:,.1f} MB",
        "whole command": f"{figures['megabytes_per_second']:.1f} MB/s",
        "from reading to shards": f"{report['megabytes_per_second']:.1f} MB/s",
        "peak memory": "not known on this system" if memory is None else f"{memory / 1e9:.2f} GB",
        "on disk": f"{disk / 1e6:,.1f} MB ({disk / text:.2f} bytes a byte of text)",
    }
    return _told("preparation", figures, shown, torch.device("cpu"), out)


@tune_malloc()
def bench_finetune(
    task: str,
    *,
    model: Path | str,
    examples: Path | str,
    steps: int = 40,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Measure fine-tuning steps of a task on the `examples` of a file, from a MODEL folder: examples/s and MFU.

    The first steps of a run as `finetune` would make it with these settings, whose lengths differ: the figure is of all
    of them together, the time of compiling not counted. Nothing is judged.
    """
    file = Path(examples)
    parts = build_parts(task, settings or {}, Path(model), {"train": file, "dev": file})
    network = parts.fresh_model(parts.config.seed)
    began = time.perf_counter()
    step = parts.step(network, parts.config.seed)
    compiling = time.perf_counter() - began
    peak = parts.peak_flops()
    source, schedule = parts.batches(parts.config.seed)
    position, marks = Progress(drawn=[0]), []
    network.train()
    for _ in train(step, [source], schedule, position=position, accumulation=1):
        marks.append((time.perf_counter(), position.epochs * source.rows_per_epoch, position.window["flops"]))
        if len(marks) == steps + SKIPPED:
            break
    if len(marks) < SKIPPED + 2:
        raise UsageError(f"{file} makes {len(marks)} steps, too few to measure; give more or --schedule.epochs")
    seconds, rows, flops = (last - first for first, last in zip(marks[SKIPPED - 1], marks[-1], strict=True))
    peak = max(peak, parts.peak_flops())
    figures = {
        "what": f"finetune {task} from {model}, {parts.config.batches.rows} examples a step, {parts.precision}",
        "examples_per_second": round(rows / seconds, 1),
        "mfu": round(flops / seconds / peak, 4),
        "setup_seconds": round(compiling, 1),
    }
    shown = {
        "speed": f"{figures['examples_per_second']:,.1f} examples/s",
        "MFU": f"{figures['mfu']:.0%} of {peak / 1e9:,.0f} GFLOP/s",
        "setup, compilation if any": f"{compiling:.0f} s",
    }
    return _told(str(figures["what"]), figures, shown, parts.device, out)


def bench_pretrain(
    data: Path | str,
    *,
    peer: Path | str,
    run: Path | str,
    recipe: str = "fast",
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Pre-train in the folder `run`, and judge it beside the MODEL folder of a peer on the same held-out text.

    Both are judged by `evaluate mlm` on whole masked words (15%, 80/10/10), whatever they were trained on. The figures
    tell whether the budget of the run was enough to reach the peer. Where the peer's folder has a metrics.jsonl beside
    it, the report of the run draws both curves.
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
    return _told(str(figures["what"]), figures, shown, pick_device(), out)


def _told(
    title: str, figures: dict[str, Any], shown: Mapping[str, str], device: torch.device, out: Path | None
) -> dict[str, Any]:
    """Print figures as a table, write them where asked, and return them."""
    print_facts(title, shown)
    whole = {**figures, "machine": machine(device), "versions": versions()}
    if out is not None:
        write_json(Path(out), whole)
    return whole
