"""Turns what a pre-training run has measured into its manifest, its result.json and the table people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bertwright.data.pretraining.dataset import Dataset
from bertwright.device import machine, versions
from bertwright.model.encoder import Encoder, parameter_count
from bertwright.reports.checkpoint_table import went_on_from
from bertwright.reports.curves import BINARY
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.auxiliary import encoder_of
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.ema import AVERAGE
from bertwright.train.held_out import loss_to_choose_by
from bertwright.train.parallel.group import launch_name
from bertwright.train.setup.pretrain_config import PretrainConfig
from bertwright.train.state import TrainState
from bertwright.train.step import Engine

TIMED = ("seconds", "setup_seconds", "tokens_per_second", "mfu", "peak_flops", "checkpoints")
"""Figures of result.json about how long things took: they alone differ between runs of a seed, stopped or not."""
TIMED_IN_LINES = ("seconds", "tokens_per_second", "mfu", "peak_flops", "waiting", "memory", "device_memory")
"""The same of a line of metrics.jsonl, and memory."""


def run_manifest(dataset: Dataset, config: PretrainConfig, model: Encoder, engine: Engine) -> dict[str, Any]:
    """Return what the run was made from and where: the model it goes on from, if any, data, machine, versions."""
    manifest = dataset.manifest
    return {
        "data": str(dataset.folders[0]),
        "fingerprint": manifest["fingerprint"],
        "language": manifest["language"],
        "unigram_entropy": manifest["unigram_entropy"],
        **({"mixture": manifest["mixture"]} if "mixture" in manifest else {}),
        **({"start": config.start.model_dump(mode="json", exclude={"shape"})} if config.start else {}),
        "parameters": parameter_count(model),
        "precision": engine.precision,
        "processes": engine.group.size,
        "machine": machine(engine.device),
        "versions": versions(),
        **({"launch": launch} if (launch := launch_name()) else {}),
    }


def result(out: Path, dataset: Dataset, config: PretrainConfig, state: TrainState, *, peak: float) -> dict[str, Any]:
    """Return the final figures of a run, as result.json holds them; speeds are medians over metrics.jsonl."""
    lines, progress, position = read_metrics(out / "metrics.jsonl"), state.progress, state.position()
    made = [line for line in lines if "loss" in line]  # the evaluation before the first step has no such figures
    mfu, peak = mfu_of(made, peak)
    evaluated: dict[str, float] = next((line["valid"] for line in reversed(lines) if line.get("valid")), {})
    raw = {name: value for name, value in evaluated.items() if not name.startswith(AVERAGE)}
    mean = {name.removeprefix(AVERAGE): value for name, value in evaluated.items() if name.startswith(AVERAGE)}
    better = state.average is not None and (not mean or loss_to_choose_by(mean) < loss_to_choose_by(raw))
    return {
        "steps": progress.step,
        "tokens": progress.tokens,
        "epochs": round(progress.epochs, 4),
        "seconds": round(progress.seconds, 1),
        "setup_seconds": round(progress.setup_seconds, 1),
        "loss": lines[-1]["loss"],
        "valid": mean if better else raw,
        "weights": "average" if better else "last",
        "unigram_entropy": dataset.manifest["unigram_entropy"],
        "tokens_per_second": median([line["tokens_per_second"] for line in made]),
        "mfu": mfu,
        "peak_flops": peak,
        "skipped": position["skipped"],
        **({"overflows": position["overflows"]} if position["overflows"] else {}),
        "checkpoints": {"written": position["saved"], "stalled_seconds": round(state.stalled, 3)},
        "parameters": parameter_count(encoder_of(state.model)),
        "size": config.size,
        "architecture": config.model.architecture,
        "language": dataset.manifest["language"],
        "samples": lines[-1].get("samples", []),
    }


def mfu_of(lines: Sequence[Mapping[str, Any]], peak: float) -> tuple[float, float]:
    """Return the median MFU of lines of metrics.jsonl, all taken by the highest peak rate, and that rate.

    `peak` is the highest of this session; lines know that of theirs, but for those of earlier versions.
    """
    peaks = [line.get("peak_flops", peak) for line in lines]
    highest = max(peak, *peaks)
    return round(median([line["mfu"] * one / highest for line, one in zip(lines, peaks, strict=True)]), 4), highest


def facts(figures: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of a result as lines of a table for people; those that it lacks are left out."""
    valid, seconds = with_perplexity(figures["valid"]), figures["seconds"]
    shown = {"held-out MLM loss": "no held-out split"}
    if valid:
        entropy = f"unigram entropy of the corpus: {figures['unigram_entropy']:.3f}"
        a_byte = f" ({valid['mlm_nats_per_byte']:.3f} a byte)" if "mlm_nats_per_byte" in valid else ""
        shown = {
            "held-out MLM loss": f"{valid['mlm_loss']:.3f} nats{a_byte}, perplexity {valid['mlm_perplexity']:,.1f} "
            f"({entropy})",
            "held-out MLM accuracy": f"{valid['mlm_accuracy']:.1%}",
        }
    for part, name in BINARY.items():
        if f"{part}_accuracy" in valid:  # results of earlier versions have no more than that
            majority = valid.get(f"{part}_majority")
            constant = "" if majority is None else f" (always the more frequent class: {majority:.1%})"
            shown[f"held-out {name} accuracy"] = f"{valid[f'{part}_accuracy']:.1%}{constant}"
        if f"{part}_balanced_accuracy" in valid:
            constant = "(mean over both classes; a constant answer: 50%)"
            shown[f"held-out {name} balanced accuracy"] = f"{valid[f'{part}_balanced_accuracy']:.1%} {constant}"
    for name, probe in figures.get("probes", {}).items():
        from_first = f"{probe['first']:.1%} -> {probe['accuracy']:.1%}"
        shown[f"probe {name}"] = f"{from_first} ({probe['kind']}; chance: {probe['chance']:.1%})"
    if "start" in figures:
        shown["went on from"] = went_on_from(figures["start"])
    shown["speed"] = f"{figures['tokens_per_second']:,.0f} tokens/s, MFU {figures['mfu']:.0%}"
    done = f"{figures['steps']:,} steps, {figures['tokens']:,} tokens ({figures['epochs']:.2f} epochs)"
    shown["trained"] = f"{done}, {seconds / 60:.1f} minutes"
    if figures.get("skipped"):
        shown["left out"] = f"{figures['skipped']:,} steps whose loss burst"
    if figures.get("overflows"):
        shown["made again"] = f"{figures['overflows']:,} steps, with a smaller loss scale for fp16"
    if "checkpoints" in figures:
        written, waited = figures["checkpoints"]["written"], figures["checkpoints"]["stalled_seconds"]
        share = waited / max(seconds, 1e-9)
        shown["checkpoints"] = f"{written} written, steps waited {waited:.2f} s for them ({share:.2%})"
    if figures.get("generator_model"):
        shown["generator, whose figures those of MLM are"] = figures["generator_model"]
    if figures.get("next_sentence_model"):
        shown["next-sentence head"] = figures["next_sentence_model"]
    return shown
