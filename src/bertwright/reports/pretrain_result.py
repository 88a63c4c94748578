"""Turns what a pre-training run has seen into its manifest, its result.json and the table people read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from bertwright.device import machine, versions
from bertwright.model.encoder import parameter_count
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.callbacks.metrics_file import read_metrics
from bertwright.train.loop import Progress
from bertwright.train.parallel.group import launch_name
from bertwright.train.setup.run import Parts

AVERAGE = "average_"
"""Begins the names of held-out figures of the averaged weights."""
TIMED = ("seconds", "setup_seconds", "tokens_per_second", "mfu", "peak_flops", "checkpoints")
"""Figures of result.json that tell how long things took: they alone differ between runs of a seed, stopped or not."""
TIMED_IN_LINES = ("seconds", "tokens_per_second", "mfu", "peak_flops")
"""The same of a line of metrics.jsonl."""


def run_manifest(data: Path, parts: Parts) -> dict[str, Any]:
    """Return what the run was made from and where: data, machine, versions."""
    return {
        "data": str(data),
        "fingerprint": parts.manifest["fingerprint"],
        "language": parts.manifest["language"],
        "unigram_entropy": parts.manifest["unigram_entropy"],
        **({"mixture": parts.manifest["mixture"]} if "mixture" in parts.manifest else {}),
        "parameters": parameter_count(parts.model),
        "precision": parts.precision,
        "processes": parts.group.size,
        "machine": machine(parts.device),
        "versions": versions(),
        **({"launch": launch} if (launch := launch_name()) else {}),
    }


def result(out: Path, parts: Parts, *, peak: float, position: Progress) -> dict[str, Any]:
    """Return the final figures of a run, as result.json holds them; speeds are medians over metrics.jsonl."""
    lines = read_metrics(out / "metrics.jsonl")
    mfu, peak = mfu_of(lines, peak)
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
        "mfu": mfu,
        "peak_flops": peak,
        "skipped": position.skipped,
        "checkpoints": {"written": position.saved, "stalled_seconds": round(position.stalled, 3)},
        "parameters": parameter_count(parts.model),
        "size": parts.config.size,
        "architecture": parts.config.model.architecture,
        "language": parts.manifest["language"],
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
    """Return the figures of a result as lines of a table for people."""
    valid = with_perplexity(figures["valid"])
    shown = {
        "held-out MLM loss": f"{valid['mlm_loss']:.3f} nats, perplexity {valid['mlm_perplexity']:,.1f} "
        f"(unigram entropy of the corpus: {figures['unigram_entropy']:.3f})"
        if valid
        else "no held-out split",
        "held-out masked accuracy": f"{valid['mlm_accuracy']:.1%}" if valid else "",
        "held-out NSP accuracy": f"{valid['nsp_accuracy']:.1%}{constant_answer(valid)}"
        if "nsp_accuracy" in valid
        else "",
        "held-out NSP balanced accuracy": f"{valid['nsp_balanced_accuracy']:.1%} (mean over both classes; a constant "
        "answer: 50%)"
        if "nsp_balanced_accuracy" in valid
        else "",
        "speed": f"{figures['tokens_per_second']:,.0f} tokens/s, MFU {figures['mfu']:.0%}",
        "trained": f"{figures['steps']:,} steps, {figures['tokens']:,} tokens ({figures['epochs']:.2f} epochs), "
        f"{figures['seconds'] / 60:.1f} minutes",
        "left out": f"{figures['skipped']:,} steps whose loss burst" if figures.get("skipped") else "",
        "checkpoints": stall_told(figures),
        "next-sentence head": figures.get("next_sentence_model", ""),
    }
    return {name: value for name, value in shown.items() if value}


def constant_answer(valid: Mapping[str, float]) -> str:
    """Return what always answering with the commoner class would reach, in words; "" in results of earlier versions."""
    return f" (always the commoner class: {valid['nsp_majority']:.1%})" if "nsp_majority" in valid else ""


def stall_told(figures: Mapping[str, Any]) -> str:
    """Return how long the steps of a run waited for checkpoints, in words."""
    if "checkpoints" not in figures:
        return ""
    written, stalled = figures["checkpoints"]["written"], figures["checkpoints"]["stalled_seconds"]
    return f"{written} written, steps waited {stalled:.2f} s for them ({stalled / max(figures['seconds'], 1e-9):.2%})"
