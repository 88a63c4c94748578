"""The main job: turns a DATA folder into a RUN folder with a pre-trained model that stock transformers loads."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bertwright.config import write_toml
from bertwright.errors import Interrupted, TrainingError
from bertwright.evaluate.held_out import held_out_figures
from bertwright.evaluate.report import write_report
from bertwright.evaluate.samples import choose_samples, predict_samples
from bertwright.export.card import model_card
from bertwright.export.huggingface import save_model
from bertwright.files import read_json, refuse_existing, require_space, write_json
from bertwright.log import note, print_facts, silent
from bertwright.model.encoder import parameter_count
from bertwright.recipes.machine import machine, versions
from bertwright.recipes.parts import Parts, build, compiled_step, held_out_examples, peak_flops
from bertwright.recipes.pretrain_state import launched_before, resumed, saver, whole_for_methods, whole_model
from bertwright.recipes.settings import resolve, resume_settings
from bertwright.train.checkpoint import checkpoints
from bertwright.train.distributed import joined, launch_name
from bertwright.train.listeners import Listener
from bertwright.train.listeners.checkpoint import CheckpointListener
from bertwright.train.listeners.console import ConsoleListener
from bertwright.train.listeners.evaluate import EvaluateListener
from bertwright.train.listeners.metrics import MetricsListener, read_metrics
from bertwright.train.loop import Position, train

AVERAGE = "average_"
"""Begins the names of held-out figures of the averaged weights."""


def pretrain(
    data: Path | str,
    out: Path | str,
    *,
    recipe: str = "classic",
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Pre-train on a DATA folder and write a RUN folder; return what result.json holds.

    `settings` are laid over the recipe, nested as in its TOML, e.g. {"size": "tiny", "schedule": {"steps": 100}}.
    Raises UsageError for wrong words, and DataError, ModelError or DiskSpaceError before anything is written;
    TrainingError on NaN and Interrupted on Ctrl-C, both after a checkpoint is saved.
    """
    began = time.perf_counter()
    data, out = Path(data), Path(out)
    restarted = (out / "manifest.json").is_file() and launched_before(read_json(out / "manifest.json"))
    config = resume_settings(out, settings or {}) if resume or restarted else resolve(recipe, settings or {})
    if not (resume or restarted):
        refuse_existing(out, instead="give another --out, or --resume to go on with the run in it")
    resume = resume or (restarted and bool(checkpoints(out)))
    with joined(timeout=config.engine.timeout) as group, silent(not group.first):
        parts = build(data, config, fresh=not resume, group=group)
        position = resumed(out, parts) if resume else Position(drawn=[0] * len(config.schedule.phases))
        if group.first:
            require_space(out, disk_needed(parts), what="this run")
            write_toml(out / "config.toml", config)
            write_json(out / "manifest.json", run_manifest(data, parts))
        peak = run(data, out, parts, position=position, began=began)
        figures = finish(data, out, parts, peak=peak, position=position)
        group.wait()
    return figures or dict(read_json(out / "result.json"))


def finish(data: Path, out: Path, parts: Parts, *, peak: float, position: Position) -> dict[str, Any]:
    """Write what a run ends with, its model, figures and report, from the first process; return the figures there."""
    group = parts.group
    figures = result(out, parts, peak=peak, position=position) if group.first else {}
    if group.any(figures.get("weights") == "average") and parts.average is not None:
        parts.average.swap()
    model = whole_model(parts)
    if not group.first:
        return figures
    if figures["weights"] == "average" and figures["samples"]:
        figures["samples"] = predict_samples(model, parts.tokenizer, choose_samples(data, parts.tokenizer))
    save_model(model, parts.tokenizer.path.parent, out / "model", card=model_card(out.name, figures))
    write_json(out / "result.json", figures)
    write_report(out)
    print_facts(f"pre-trained: {out / 'model'}", facts(figures))
    return figures


def run(data: Path, out: Path, parts: Parts, *, position: Position, began: float) -> float:
    """Train from `position` to the end of the schedule, listeners in place; return the peak rate of the machine."""
    engine, schedule = parts.config.engine, parts.config.schedule
    group, save = parts.group, saver(out, parts, position)
    peak = group.total({"peak": peak_flops(parts)})["peak"]
    metrics = MetricsListener(
        out / "metrics.jsonl",
        every=engine.log_every,
        lengths=[p.length for p in schedule.phases],
        peak_learning_rate=parts.config.optimizer.learning_rate,
        peak_flops=peak,
    )
    checkpoint = CheckpointListener(save, minutes=engine.checkpoint_minutes, steps=engine.checkpoint_steps, group=group)
    console = ConsoleListener()
    listeners: list[Listener] = [evaluation(data, parts, position), checkpoint]
    if group.first:
        metrics.begin(position)
        listeners[1:1] = [metrics, console]
    note(
        f"{parts.config.size}: {parameter_count(parts.model):,} parameters, {parts.precision} on {parts.device.type}, "
        f"{schedule.amount:g} {schedule.unit}{f', {group.size} processes' if group.size > 1 else ''}"
        f"{'; compiling' if engine.compile else ''}"
    )
    step = compiled_step(parts)
    if not position.step:
        position.seconds = position.setup_seconds = group.of_first(time.perf_counter() - began)
        if position.spent().progress(schedule) >= 1:
            raise TrainingError(
                f"reading and compiling took {position.seconds:.0f} s, and {schedule.minutes:g} minutes were all there "
                f"was: no step was made; delete {out} and give more --minutes, or --engine.compile false"
            )
    try:
        with checkpoint.listening_for_signals():
            for report in train(step, parts.sources, schedule, position=position, accumulation=engine.accumulation):
                for listener in listeners:
                    listener(report)
    except TrainingError as error:
        raise TrainingError(f"{error}; the state before it is saved in {save()}") from error
    except Interrupted:
        if group.first:
            write_report(out)
        raise
    finally:
        console.close()
    return peak


def evaluation(data: Path, parts: Parts, position: Position) -> EvaluateListener:
    """Return the listener that judges the model on held-out rows and shows what it predicts for masked sentences."""
    config = parts.config
    length = config.schedule.phases[0].length
    examples = held_out_examples(
        data, parts.tokenizer, parts.objective, length=length, rows=config.engine.evaluation_rows
    )
    samples = choose_samples(data, parts.tokenizer) if examples else []
    judge = partial(
        held_out_figures,
        parts.model,
        parts.objective,
        examples,
        device=parts.device,
        cast=parts.cast,
        group=parts.group,
    )

    def figures() -> dict[str, float]:
        raw = judge()
        if parts.average is None:
            return raw
        with parts.average.in_place():
            return raw | {f"{AVERAGE}{name}": value for name, value in judge().items()}

    def predictions() -> list[dict[str, Any]]:
        with whole_for_methods(parts):
            return predict_samples(parts.model, parts.tokenizer, samples)

    done = int(position.spent().progress(config.schedule) * config.engine.evaluations + 1e-9)
    return EvaluateListener(
        held_out=figures,
        samples=predictions,
        times=config.engine.evaluations if examples else 0,
        done=done,
    )


def disk_needed(parts: Parts) -> int:
    """Return about how many bytes a run writes: checkpoints (weights, two moments, average), its model, its metrics."""
    weights = 4 * parameter_count(parts.model)
    copies = 3 if parts.average is None else 4
    return weights * (copies * (parts.config.engine.keep + 1) + 1) + 20_000_000


def run_manifest(data: Path, parts: Parts) -> dict[str, Any]:
    """Return what the run was made from and where: data, machine, versions."""
    return {
        "data": str(data),
        "fingerprint": parts.manifest["fingerprint"],
        "language": parts.manifest["language"],
        "unigram_entropy": parts.manifest["unigram_entropy"],
        "parameters": parameter_count(parts.model),
        "precision": parts.precision,
        "processes": parts.group.size,
        "machine": machine(parts.device),
        "versions": versions(),
        **({"launch": launch} if (launch := launch_name()) else {}),
    }


def result(out: Path, parts: Parts, *, peak: float, position: Position) -> dict[str, Any]:
    """Return the final figures of a run, as result.json holds them; speeds are medians over metrics.jsonl."""
    lines = read_metrics(out / "metrics.jsonl")
    judged: dict[str, float] = next((line["valid"] for line in reversed(lines) if line.get("valid")), {})
    raw = {name: value for name, value in judged.items() if not name.startswith(AVERAGE)}
    mean = {name.removeprefix(AVERAGE): value for name, value in judged.items() if name.startswith(AVERAGE)}
    better = parts.average is not None and (not mean or mean["mlm_loss"] < raw["mlm_loss"])
    return {
        "steps": position.step,
        "tokens": position.tokens,
        "epochs": round(position.epochs, 4),
        "seconds": round(position.seconds, 1),
        "setup_seconds": round(position.setup_seconds, 1),
        "loss": lines[-1]["loss"],
        "valid": mean if better else raw,
        "weights": "average" if better else "last",
        "unigram_entropy": parts.manifest["unigram_entropy"],
        "tokens_per_second": median([line["tokens_per_second"] for line in lines]),
        "mfu": median([line["mfu"] for line in lines]),
        "peak_flops": peak,
        "parameters": parameter_count(parts.model),
        "size": parts.config.size,
        "architecture": parts.config.model.architecture,
        "language": parts.manifest["language"],
        "samples": lines[-1].get("samples", []),
    }


def facts(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of a result as lines of a table for people."""
    valid = figures["valid"]
    shown = {
        "held-out MLM loss": f"{valid['mlm_loss']:.3f} nats (unigram entropy of the corpus: "
        f"{figures['unigram_entropy']:.3f})"
        if valid
        else "no held-out split",
        "held-out masked accuracy": f"{valid['mlm_accuracy']:.1%}" if valid else "",
        "held-out NSP accuracy": f"{valid['nsp_accuracy']:.1%} (chance: 50%)" if "nsp_accuracy" in valid else "",
        "speed": f"{figures['tokens_per_second']:,.0f} tokens/s, MFU {figures['mfu']:.0%}",
        "trained": f"{figures['steps']:,} steps, {figures['tokens']:,} tokens ({figures['epochs']:.2f} epochs), "
        f"{figures['seconds'] / 60:.1f} minutes",
    }
    return {name: value for name, value in shown.items() if value}
