"""Turns the state of a pre-training run into a trained model in its folder: begins it, trains, finishes it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from bertwright.config import write_toml
from bertwright.data.pretraining.dataset import Dataset
from bertwright.errors import Interrupted, OutOfMemoryError, TrainingError
from bertwright.files import require_space, write_json
from bertwright.hub.cards.model_cards import discriminator_card, model_card, next_sentence_card
from bertwright.hub.encoder_folder import GENERATOR, save_model
from bertwright.hub.nsp_folder import FOLDER, ORDER_FOLDER, has_own_folder, order_settings, save_next_sentence
from bertwright.hub.snapshots import SNAPSHOTS
from bertwright.inference.samples import choose_samples, predict_samples
from bertwright.log import Facts, note
from bertwright.model.bert import BertForPreTraining, shrink_embeddings
from bertwright.model.encoder import Encoder, parameter_count
from bertwright.model.encoder_config import DROPOUTS
from bertwright.model.random_state import kept_random_state
from bertwright.objectives.base import Objective
from bertwright.objectives.combine import finds_replaced
from bertwright.reports.before_after import before_after, comparison_tables, probe_figures
from bertwright.reports.html_report import write_report
from bertwright.reports.pretrain_result import facts, result, run_manifest
from bertwright.result import Result
from bertwright.system import tune_malloc
from bertwright.train.auxiliary import encoder_of, generator_of
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.console import ConsoleCallback
from bertwright.train.callbacks.diagnose import DiagnoseCallback
from bertwright.train.callbacks.divergence import DivergenceCallback, EndIfDiverged
from bertwright.train.callbacks.evaluation import EvaluateCallback
from bertwright.train.callbacks.metrics_file import MetricsCallback, MetricsWindow, read_metrics
from bertwright.train.callbacks.model_snapshots import SnapshotCallback
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.callbacks.report_page import ReportCallback
from bertwright.train.callbacks.track import tracking
from bertwright.train.checkpoint.resume import saving, whole_model
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import Snapshot
from bertwright.train.diagnosis.course import Lines
from bertwright.train.diagnosis.loss_check import Diagnosis, diagnose
from bertwright.train.diagnosis.reference_runs import RunKind, kind_of_run
from bertwright.train.interval import Interval
from bertwright.train.loop import train, weight_norm
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.setup.assemble import peak_flops
from bertwright.train.setup.compiling import CompileCallback, plan_of
from bertwright.train.setup.evaluator import Beside, Evaluator
from bertwright.train.setup.pretrain_config import PretrainConfig, keep_found
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.setup.step_parts import memory_explained
from bertwright.train.state import TrainState
from bertwright.train.step import Engine
from bertwright.verbs.calls.pretrain_preview import disk_needed
from bertwright.verbs.calls.run_folder import require_free


def begin_folder(
    out: Path, dataset: Dataset, config: PretrainConfig, state: TrainState, engine: Engine, *, clear: bool
) -> None:
    """Write the manifest and the settings of a run that begins or goes on, where the disk has room for all of it.

    `clear` deletes an earlier run in its folder. Raises DiskSpaceError.
    """
    encoder = encoder_of(state.model)
    auxiliary = parameter_count(state.model) - parameter_count(encoder)
    require_space(out, disk_needed(encoder, config, auxiliary=auxiliary), what="this run")
    if clear:
        require_free(out, dataset.folders, overwrite=True, clear=True)
    write_json(out / "manifest.json", run_manifest(dataset, config, encoder, engine))
    write_toml(out / "config.toml", config)


def train_watched(
    out: Path,
    dataset: Dataset,
    config: PretrainConfig,
    state: TrainState,
    loader: PretrainLoader,
    objective: Objective,
    engine: Engine,
    *,
    beside: Beside,
    identity: Mapping[str, Any],
    good: Snapshot | None,
    began: float,
) -> float:
    """Train from `state` to the end of the schedule, callbacks in place; return the peak rate of the machine.

    `beside` is measured at each evaluation, too; `good` is the state to go back to, of a run that was resumed. The run
    began at `began`, by a clock that cannot be set. What is saved when it ends early is said in what it raises:
    TrainingError or Interrupted.
    """
    group, schedule, window = engine.group, config.schedule, MetricsWindow()
    note(
        f"{config.size}: {parameter_count(encoder_of(state.model)):,} parameters, {engine.precision} on "
        f"{engine.device.type}, {schedule.amount:g} {schedule.unit}"
        f"{f', {group.size} processes' if group.size > 1 else ''}"
    )
    divergence = DivergenceCallback(state.model, window, group)
    guard = LossSpikeGuard(config.guard, state, schedule, divergence, good=good if config.guard.attempts else None)
    checkpoint = saving(out, config, state, guard, identity=identity, group=group)
    compiling = CompileCallback(
        dataset.folders[0], out, config, state, loader, objective, engine,
        plan=plan_of(config, loader, engine, step=state.progress.step), until=checkpoint.until_stopped,
    )  # fmt: skip
    with memory_explained(state, loader, objective, engine):
        compiling.begin()
    measure = partial(group_peak, loader, engine)
    peak = PeakCallback(measure, measure())
    evaluator = Evaluator(dataset, config, state, engine, beside=beside, until=checkpoint.until_stopped)
    seconds = group.broadcast(60 * (schedule.minutes or 0) - (time.perf_counter() - began))
    evaluate = evaluation(out, config, evaluator, work=loader.run_flops(peak=peak.flops, seconds=seconds))
    console = ConsoleCallback()
    trackers = tracking(config.engine.track if group.is_main else None, out, config.model_dump(mode="json"))
    callbacks: list[Callback] = [window, compiling, *snapshots(out, dataset, config, state, engine), evaluate, peak]
    callbacks.append(divergence)
    if group.is_main:
        lengths = [phase.length for phase in schedule.phases]
        metrics = MetricsCallback(
            out / "metrics.jsonl", window, config.engine.log_every, lengths, config.optimizer, peak
        )
        kind = kind_of_run(config.model_dump(mode="json"), dataset.manifest)
        callbacks.append(metrics)
        if kind is not None:
            check = partial(diagnose_with, kind, guard)
            callbacks.append(DiagnoseCallback(metrics.path, check))
        callbacks += [console, *trackers, ReportCallback(partial(write_report, out))]
    callbacks += [EndIfDiverged(), guard, checkpoint]
    start_clock(out, config, state, seconds=group.broadcast(time.perf_counter() - began))
    try:
        with (
            tune_malloc(),
            checkpoint.listening_for_signals(),
            memory_explained(state, loader, objective, engine),
        ):
            compiling.start()
            train(state, loader, objective, callbacks, engine=engine, guard=guard)
            checkpoint.saver.wait()
    except OutOfMemoryError:
        raise  # nothing is saved: the state has no room for a copy, and part of it may be gone
    except TrainingError as error:
        raise TrainingError(f"{error}; {save_before_the_end(state, checkpoint.saver, config)}") from error
    except Interrupted:
        if group.is_main:
            write_report(out)
        group.wait()  # torchrun ends all processes when the first of them has ended
        raise
    finally:
        compiling.close()
        console.close()
        checkpoint.saver.close()
        for tracker in trackers:
            tracker.close()
    return peak.flops


def diagnose_with(kind: RunKind, guard: LossSpikeGuard, lines: Lines) -> Diagnosis:
    """Return what the loss of a run of a kind looks like, given what its guard has left out."""
    return diagnose(lines, kind, skipped=guard.skipped)


def group_peak(loader: PretrainLoader, engine: Engine) -> float:
    """Return the measured rate of all processes together."""
    return engine.group.total({"peak": peak_flops(loader, engine, rounds=2)})["peak"]


def evaluation(out: Path, config: PretrainConfig, evaluator: Evaluator, *, work: float) -> EvaluateCallback:
    """Return the callback that evaluates along a run of so many operations; where how often is found, it is kept."""
    settings, group = config.engine, evaluator.engine.group
    times = settings.evaluations or evaluator.times(work)
    every = None if settings.evaluate_every is None else Interval.parse(settings.evaluate_every)
    times = times if any(evaluator.examples) or evaluator.probes else 0
    if group.is_main and times and settings.evaluations is None and every is None:
        keep_found(out, evaluations=times)  # later starts go by the same number
    return EvaluateCallback(
        held_out=evaluator.figures, samples=evaluator.samples, times=times, every=every,
        probed=evaluator.probed if evaluator.probes else None, own=evaluator.own,
    )  # fmt: skip


def snapshots(
    out: Path, dataset: Dataset, config: PretrainConfig, state: TrainState, engine: Engine
) -> list[SnapshotCallback]:
    """Return what keeps the models of the way, where the settings ask for some."""
    words, order = dataset.tokenizer.path.parent, "sop" in config.objective.chosen

    @kept_random_state()
    def save(folder: Path) -> None:
        model = whole_model(state, sharded=engine.sharded)
        if engine.group.is_main:
            save_model(model, words, folder, settings=_settings_of(model, order=order))

    count = config.engine.snapshots
    return [SnapshotCallback(out / SNAPSHOTS, count, save, is_main=engine.group.is_main)] if count else []


def _settings_of(model: Encoder, *, order: bool) -> dict[str, Any] | None:
    """Return what config.json says of a next-sentence head in it that tells the order of texts, as `order` says."""
    return order_settings() if order and not has_own_folder(model) else None


def start_clock(out: Path, config: PretrainConfig, state: TrainState, *, seconds: float) -> None:
    """Note that a new run has taken so many seconds before its first step; TrainingError if that was all it had."""
    progress, schedule = state.progress, config.schedule
    if progress.step:
        return
    progress.seconds = progress.setup_seconds = seconds
    if progress.fraction(schedule) >= 1:
        raise TrainingError(
            f"all that comes before the first step took {seconds:.0f} s, and {schedule.minutes:g} minutes "
            f"were all there was: no step was made; delete {out} and give more --minutes"
            f"{'' if config.engine.compile is False else ', or --engine.compile false'}"
        )


def save_before_the_end(state: TrainState, saver: Saver, config: PretrainConfig) -> str:
    """Save the state of a run that ends by an error, unless its weights are not finite; return where it is, in words.

    Resumed after its last step, such a run is evaluated again.
    """
    if not math.isfinite(weight_norm(state.model)):
        saver.wait()
        return f"checkpoints before that are untouched in {saver.run / 'checkpoints'}"
    state.callbacks_done = state.callbacks_done and state.progress.fraction(config.schedule) < 1
    saver.save()
    return f"the state before it is saved in {saver.wait()}"


def save_models(
    out: Path, model: Encoder, generator: Encoder | None, words: Path, figures: dict[str, Any], *, order: bool
) -> None:
    """Write the model folders of a run, with the tokenizer in `words`; `figures` learn what there is beside RUN/model.

    `generator` is the one that was trained beside a model that finds replaced tokens; `order` says that the head for
    pairs tells their order.
    """
    if has_own_folder(model):
        folder = figures["next_sentence_model"] = ORDER_FOLDER if order else FOLDER
        save_next_sentence(model, words, out / folder, order=order, card=next_sentence_card(out.name, figures))
    if generator is not None:
        figures["generator_model"] = GENERATOR
        save_model(generator, words, out / GENERATOR, card=model_card(f"{out.name} (generator)", figures))
    card = model_card if generator is None else discriminator_card
    settings = _settings_of(model, order=order)
    save_model(model, words, out / "model", settings=settings, card=card(out.name, figures))


def finish(
    out: Path,
    dataset: Dataset,
    config: PretrainConfig,
    state: TrainState,
    engine: Engine,
    *,
    beside: Beside,
    peak: float,
) -> Result:
    """Write the model folder of a run that is done, its result.json and its report; return the figures.

    The first process writes, and alone has the figures.
    """
    group, tokenizer = engine.group, dataset.tokenizer
    figures = result(out, dataset, config, state, peak=peak) if group.is_main else {}
    if group.any(figures.get("weights") == "average") and state.average is not None:
        state.average.swap()
    model = whole_model(state, sharded=engine.sharded)
    if not group.is_main:
        return Result({})
    held_out = dataset.valid[0]
    generator = generator_of(state.model) if finds_replaced(config.objective) else None
    if figures["weights"] == "average" and figures["samples"] and held_out is not None:
        figures["samples"] = predict_samples(generator or model, tokenizer, choose_samples(held_out, tokenizer))
    if config.model.init == "cooccurrence" and isinstance(model, BertForPreTraining):
        shrink_embeddings(model)  # the start has large ones, which fine-tuning would hardly move
    lines = read_metrics(out / "metrics.jsonl")
    if beside.probes:
        figures["probes"] = probe_figures(lines, beside)
    if config.start is not None:
        figures["start"] = config.start.model_dump(mode="json", exclude={"shape"})
        figures["before_after"] = before_after(lines, dataset, beside, figures)
        # Dropout belongs to training: who fine-tunes the model has what its first authors gave it.
        model.config = model.config.model_copy(update={name: config.start.shape[name] for name in DROPOUTS})
    save_models(out, model, generator, tokenizer.path.parent, figures, order="sop" in config.objective.chosen)
    write_json(out / "result.json", figures)
    write_report(out)
    tables = comparison_tables(figures["before_after"]) if "before_after" in figures else []
    return Result(figures, Facts(f"pre-trained: {out / 'model'}", facts(figures)), *tables)
