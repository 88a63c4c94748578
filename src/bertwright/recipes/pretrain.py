"""The main job: turns a DATA folder into a RUN folder with a pre-trained model that stock transformers loads."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bertwright.config import write_toml
from bertwright.errors import Interrupted, ModelError, TrainingError
from bertwright.evaluate.held_out import held_out_figures
from bertwright.evaluate.report import write_report
from bertwright.evaluate.samples import choose_samples, predict_samples
from bertwright.export.card import model_card
from bertwright.export.huggingface import save_model
from bertwright.files import refuse_existing, require_space, write_json
from bertwright.log import note, print_facts
from bertwright.model.encoder import parameter_count
from bertwright.recipes.machine import machine, versions
from bertwright.recipes.mixture import folders_of, mixed_figures, names_of, shares_of, with_mixture
from bertwright.recipes.parts import Parts, build, compiled_step, held_out_examples, peak_flops
from bertwright.recipes.settings import resolve, resume_settings
from bertwright.train.checkpoint import checkpoints, load_checkpoint, save_checkpoint
from bertwright.train.listeners import Listener
from bertwright.train.listeners.checkpoint import CheckpointListener
from bertwright.train.listeners.console import ConsoleListener
from bertwright.train.listeners.evaluate import EvaluateListener
from bertwright.train.listeners.metrics import MetricsListener, read_metrics
from bertwright.train.loop import Position, train

AVERAGE = "average_"
"""Begins the names of held-out figures of the averaged weights."""


def pretrain(
    data: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    mixture: Sequence[float] | None = None,
    recipe: str = "classic",
    resume: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Pre-train on a DATA folder and write a RUN folder; return what result.json holds.

    `data` may be several folders made with the same tokenizer; `mixture` gives the share of the rows from each (by
    default, that of their tokens). `settings` are laid over the recipe, nested as in its TOML, e.g. {"size": "tiny",
    "schedule": {"steps": 100}}.
    Raises UsageError for wrong words, and DataError, ModelError or DiskSpaceError before anything is written;
    TrainingError on NaN and Interrupted on Ctrl-C, both after a checkpoint is saved.
    """
    began = time.perf_counter()
    data, settings = with_mixture(data, mixture, settings)
    out = Path(out)
    config = resume_settings(out, settings or {}) if resume else resolve(recipe, settings or {})
    if not resume:
        refuse_existing(out, instead="give another --out, or --resume to go on with the run in it")
    parts = build(data, config, fresh=not resume)
    position = resumed(out, parts) if resume else Position(drawn=[0] * len(config.schedule.phases))
    require_space(out, disk_needed(parts), what="this run")
    write_toml(out / "config.toml", config)
    write_json(out / "manifest.json", run_manifest(data, parts))
    peak = run(data, out, parts, position=position, began=began)
    figures = result(out, parts, peak=peak, position=position)
    if figures["weights"] == "average" and parts.average is not None:
        parts.average.swap()
        if figures["samples"]:
            figures["samples"] = predict_samples(parts.model, parts.tokenizer, choose_samples(data, parts.tokenizer))
    save_model(parts.model, parts.tokenizer.path.parent, out / "model", card=model_card(out.name, figures))
    write_json(out / "result.json", figures)
    write_report(out)
    print_facts(f"pre-trained: {out / 'model'}", facts(figures))
    return figures


def resumed(out: Path, parts: Parts) -> Position:
    """Load the last checkpoint of a run into its parts and return where it stood, or raise ModelError."""
    saved = checkpoints(out)
    if not saved:
        raise ModelError(f"{out} holds no checkpoint to resume from; delete it and start anew without --resume")
    position = load_checkpoint(
        saved[-1],
        model=parts.model,
        optimizers=parts.optimizers,
        average=parts.average,
        identity=run_identity(parts),
    )
    note(f"going on from step {position.step:,} ({saved[-1]})")
    return position


def run(data: Path, out: Path, parts: Parts, *, position: Position, began: float) -> float:
    """Train from `position` to the end of the schedule, listeners in place; return the peak rate of the machine."""
    engine, schedule = parts.config.engine, parts.config.schedule
    save = partial(
        save_checkpoint,
        out,
        model=parts.model,
        optimizers=parts.optimizers,
        average=parts.average,
        position=position,
        identity=run_identity(parts),
        keep=engine.keep,
    )
    peak = peak_flops(parts)
    metrics = MetricsListener(
        out / "metrics.jsonl",
        every=engine.log_every,
        lengths=[p.length for p in schedule.phases],
        peak_learning_rate=parts.config.optimizer.learning_rate,
        peak_flops=peak,
    )
    metrics.begin(position)
    checkpoint = CheckpointListener(save, minutes=engine.checkpoint_minutes, steps=engine.checkpoint_steps)
    console = ConsoleListener()
    listeners: list[Listener] = [evaluation(data, parts, position), metrics, console, checkpoint]
    note(
        f"{parts.config.size}: {parameter_count(parts.model):,} parameters, {parts.precision} on {parts.device.type}, "
        f"{schedule.amount:g} {schedule.unit}{'; compiling' if engine.compile else ''}"
    )
    step = compiled_step(parts)
    if not position.step:
        position.seconds = position.setup_seconds = time.perf_counter() - began
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
        write_report(out)
        raise
    finally:
        console.close()
    return peak


def evaluation(data: Path, parts: Parts, position: Position) -> EvaluateListener:
    """Return the listener that judges the model on held-out rows and shows what it predicts for masked sentences."""
    config = parts.config
    length = config.schedule.phases[0].length
    folders, rows = folders_of(data, config), config.engine.evaluation_rows
    examples = [
        held_out_examples(folder, parts.tokenizer, parts.objective, length=length, rows=rows) for folder in folders
    ]
    samples = choose_samples(data, parts.tokenizer) if examples[0] else []
    of_folder = partial(held_out_figures, parts.model, parts.objective, device=parts.device, cast=parts.cast)

    def judge() -> dict[str, float]:
        figures = {name: of_folder(rows) for name, rows in zip(names_of(folders), examples, strict=True)}
        return mixed_figures(figures, shares_of(data, config))

    def figures() -> dict[str, float]:
        raw = judge()
        if parts.average is None:
            return raw
        with parts.average.in_place():
            return raw | {f"{AVERAGE}{name}": value for name, value in judge().items()}

    done = int(position.spent().progress(config.schedule) * config.engine.evaluations + 1e-9)
    return EvaluateListener(
        held_out=figures,
        samples=lambda: predict_samples(parts.model, parts.tokenizer, samples),
        times=config.engine.evaluations if any(examples) else 0,
        done=done,
    )


def disk_needed(parts: Parts) -> int:
    """Return about how many bytes a run writes: checkpoints (weights, two moments, average), its model, its metrics."""
    weights = 4 * parameter_count(parts.model)
    copies = 3 if parts.average is None else 4
    return weights * (copies * (parts.config.engine.keep + 1) + 1) + 20_000_000


def run_identity(parts: Parts) -> dict[str, Any]:
    """Return what must be the same for a checkpoint to be gone on with; how it is watched may change."""
    settings = parts.config.model_dump(mode="json", exclude={"engine": True, "data": {"others"}})
    return {
        "data fingerprint": parts.manifest["fingerprint"],
        **settings,
        "engine.accumulation": parts.config.engine.accumulation,
        "engine.compile": parts.config.engine.compile,
        "precision": parts.precision,
    }


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
        "machine": machine(parts.device),
        "versions": versions(),
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
