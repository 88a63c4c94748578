"""Asks whether a card computes what a CPU does, goes on exactly where it stopped, and is never waited for in a step."""

from __future__ import annotations

import json
import shutil
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from gpu_parts.part import Part
from safetensors.torch import load_file

from bertwright.data.pretraining.dataset import Dataset, open_dataset
from bertwright.device import on_device, pick_device, resolve_precision
from bertwright.nested import merge
from bertwright.rng import key_of
from bertwright.train.callbacks.base import StepReport
from bertwright.train.setup.assemble import build
from bertwright.train.setup.pretrain_config import resolve
from bertwright.train.step import Engine
from bertwright.verbs.bench import bench
from bertwright.verbs.calls.measuring import bench_training
from bertwright.verbs.pretrain import pretrain

STEPS = 50
CLOSE = {"fp32": 0.01, "bf16": 0.05, "fp16": 0.05}
"""Nats that the loss of a step may differ from that of the CPU in float32."""


def parity(part: Part) -> None:
    """Train the same start on the same masks on CPU and card, and compare the losses of all steps."""
    rows, length = (8, 32) if part.toy else (32, 128)
    over: dict[str, Any] = {
        "size": "tiny" if part.toy else "mini",
        "model": {"dropout": 0.0, "attention_dropout": 0.0},
        "schedule": {"steps": STEPS, "phases": [{"length": length, "rows": rows, "share": 1.0}]},
    }
    device, best = pick_device(), resolve_precision("auto", pick_device())
    kinds = [("cpu", "fp32"), (device.type, "fp32"), *([(device.type, best)] if best != "fp32" else [])]
    for recipe in ("classic", "fast"):
        settings = over if recipe == "classic" else merge(over, {"model": {"init": "noise"}})
        runs = [losses(part, recipe, merge(settings, {"engine": {"precision": kind}}), on) for on, kind in kinds]
        part.tell(**{f"{recipe}_losses": {"/".join(kind): run for kind, run in zip(kinds, runs, strict=True)}})
        for (on, precision), run in list(zip(kinds, runs, strict=True))[1:]:
            apart = max(abs(one - other) for one, other in zip(run, runs[0], strict=True))
            part.cell(
                f"{recipe}, {STEPS} steps, {on} in {precision} against the CPU in fp32", round(apart, 6),
                unit="nats at most", also=f"loss {runs[0][0]:.3f} to {runs[0][-1]:.3f}, and {run[-1]:.3f}",
                good=apart <= CLOSE[precision],
            )  # fmt: skip


def losses(part: Part, recipe: str, settings: dict[str, Any], device: str) -> list[float]:
    """Return the loss of each step of a run whose batches and masks are drawn on the CPU; it has no dropout."""
    with on_device(device):
        config = resolve(recipe, settings)
        dataset: Dataset = open_dataset(config.folders(part.data), mixture=config.data.shares)
        with on_device("cpu"):
            weights = build(dataset, config)[0].model.state_dict()
        state, loader, objective, engine = build(dataset, config, fresh=False)
        state.model.load_state_dict(weights)
        state.model.train()
        found = []
        for step in range(STEPS):
            given = {"of": 1, "fraction": step / STEPS, "rate_factor": min(1.0, (step + 1) / 10)}
            with masked_on_the_cpu():
                found.append(engine.step(state, objective, loader.work(0, step), **given)["loss"])
            state.progress.step += 1
        return [round(one, 6) for one in found]


@contextmanager
def masked_on_the_cpu() -> Iterator[None]:
    """Have engines draw masks on the CPU meanwhile: a card has other random numbers."""
    usual = Engine.example

    def example(self: Engine, objective: Any, batch: Any, *, step: int, index: int, fraction: float) -> Any:
        generator = torch.Generator().manual_seed(key_of("mask", self.seed, step, index))
        return objective.corrupt(batch, generator, fraction).to(self.device)

    Engine.example = example  # type: ignore[method-assign]
    try:
        yield
    finally:
        Engine.example = usual  # type: ignore[method-assign]


def resume(part: Part) -> None:
    """Stop a run after half its steps, go on, and compare weights and losses with those of one never stopped."""
    steps = 40
    settings: dict[str, Any] = {
        "size": "tiny",
        "schedule": {"steps": steps, "phases": [{"length": 32 if part.toy else 128, "rows": 16, "share": 1.0}]},
        "engine": {"compile": False, "log_every": 1, "evaluations": 1, "evaluation_rows": 32},
    }
    settings["engine"] |= {"checkpoint_steps": steps // 2, "keep": 2}
    later = shutil.ignore_patterns(f"step-{steps}", "model", "result.json", "report.html", ".lock")
    for recipe in ("classic", "fast"):
        whole, again, stopped = (part.folder / f"{recipe}-{name}" for name in ("whole", "again", "stopped"))
        for run in (whole, again):
            pretrain(part.data, run, recipe=recipe, settings=settings, overwrite=run.exists())
        shutil.rmtree(stopped, ignore_errors=True)
        shutil.copytree(whole, stopped, ignore=later)
        pretrain(part.data, stopped, recipe=recipe, settings=settings, resume=True)
        apart, noise = furthest(whole, stopped), furthest(whole, again)
        part.cell(
            f"{recipe}, {steps} steps, stopped after {steps // 2}", apart, unit="largest difference of a weight",
            also="bit for bit" if apart == 0 else f"two runs never stopped differ by {noise:.2g}",
            good=apart <= max(10 * noise, 0.0) and last_loss(whole)[0] == last_loss(stopped)[0],
        )  # fmt: skip
        part.tell(**{f"{recipe}_last": {run.name: last_loss(run) for run in (whole, again, stopped)}})


def furthest(one: Path, other: Path) -> float:
    """Return the largest difference of a weight of two runs."""
    first, second = (load_file(run / "model" / "model.safetensors") for run in (one, other))
    return max(float((second[name].float() - tensor.float()).abs().max()) for name, tensor in first.items())


def last_loss(run: Path) -> tuple[int, float]:
    """Return step and loss of the last line of metrics.jsonl."""
    line = json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    return line["step"], line["loss"]


class Counted(Exception):
    """Enough steps were counted."""


def reads(part: Part) -> None:
    """Count the reads in a step that make the CPU wait for the card, and where they stand; steps uncompiled."""
    first, counted = 8, 20
    on_card = pick_device().type == "cuda"
    phases = [{"length": part.length(128), "rows": part.rows(part.length(128)), "share": 1.0}]
    settings = {"size": part.size("mini"), "schedule": {"phases": phases}, "engine": {"compile": False}}
    for recipe in ("classic", "fast"):
        places: Counter[str] = Counter()
        seen = {"steps": 0}

        def on_step(self: bench_training.Marks, report: StepReport, seen: dict[str, int] = seen) -> None:
            seen["steps"] += 1
            if seen["steps"] == first and on_card:
                torch.cuda.set_sync_debug_mode("warn")
            if seen["steps"] == first + counted:
                raise Counted

        usual, bench_training.Marks.on_step = bench_training.Marks.on_step, on_step  # type: ignore[method-assign]
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                bench("step", data=part.data, recipe=recipe, steps=1000, settings=settings)
        except Counted:
            pass
        finally:
            bench_training.Marks.on_step = usual  # type: ignore[method-assign]
            if on_card:
                torch.cuda.set_sync_debug_mode("default")
        for one in said:
            if "called a synchronizing" in str(one.message):
                places[f"{Path(one.filename).name}:{one.lineno}"] += 1
        part.tell(**{f"{recipe}_places": dict(places)})
        named = ", ".join(f"{place} {count / counted:g}" for place, count in places.most_common(4))
        each = sum(places.values()) / counted
        part.cell(f"{recipe}: reads a step that wait for the card", each if on_card else "no card to wait for",
                  also=named, good=each == 0 if on_card else None)  # fmt: skip
