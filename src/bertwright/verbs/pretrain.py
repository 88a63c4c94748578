"""The main job: turns a DATA folder into a RUN folder with a pre-trained model that stock transformers loads."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from bertwright.config import merge, write_toml
from bertwright.corpus.shards import check_shards
from bertwright.errors import BertwrightError, DataError, Interrupted, TrainingError, UsageError
from bertwright.files import (
    human_bytes,
    read_json,
    require_space,
    write_json,
)
from bertwright.flags import with_flags
from bertwright.hub.cards.pretrained import model_card, next_sentence_card
from bertwright.hub.encoder_folder import save_model
from bertwright.hub.nsp_folder import FOLDER, has_own_folder, save_next_sentence
from bertwright.inference.samples import choose_samples, predict_samples
from bertwright.log import note, print_facts
from bertwright.model.bert import BertForPreTraining
from bertwright.model.embedding_size import shrink_embeddings
from bertwright.model.encoder import parameter_count
from bertwright.model.random_state import kept_random_state
from bertwright.objectives.combine import build_objective, for_evaluation
from bertwright.reports.pretrain_html import write_report
from bertwright.reports.pretrain_result import AVERAGE, facts, result, run_manifest
from bertwright.system import tune_malloc
from bertwright.train.callbacks import Callback
from bertwright.train.callbacks.console import ConsoleListener
from bertwright.train.callbacks.evaluation import EvaluateListener
from bertwright.train.callbacks.metrics_file import MetricsCallback
from bertwright.train.callbacks.peak import PeakCallback
from bertwright.train.callbacks.save import CheckpointListener, StopAskedError
from bertwright.train.checkpoint.folder import best_valid_loss
from bertwright.train.checkpoint.resume import (
    last_checkpoint,
    launched_before,
    require_same,
    resumed,
    run_identity,
    saving,
    whole_for_methods,
    whole_model,
)
from bertwright.train.checkpoint.saver import Saver
from bertwright.train.checkpoint.snapshot import Snapshot, TrainState
from bertwright.train.divergence import DivergenceListener, end_if_diverged
from bertwright.train.held_out import held_out_figures
from bertwright.train.interval import Interval
from bertwright.train.loop import Progress, StepReport, train, weight_norm
from bertwright.train.loss_guard import LossSpikeGuard
from bertwright.train.parallel.group import Group
from bertwright.train.schedule import ScheduleConfig
from bertwright.train.setup.compiling import CompileListener
from bertwright.train.setup.evaluation_count import evaluation_count, run_work
from bertwright.train.setup.mixture_of_folders import folders_of, mixed_figures, names_of, shares_of, with_mixture
from bertwright.train.setup.pretrain_config import keep_found, resolve, resume_settings, switched_off
from bertwright.train.setup.run import Parts, build, held_out_examples, peak_flops
from bertwright.types import MaskedBatch
from bertwright.verbs.calls.pretrain_flags import PretrainFlags, pretrain_settings
from bertwright.verbs.calls.pretrain_folder import require_free, working
from bertwright.verbs.calls.pretrain_preview import disk_needed, preview_run

WORTH_SAYING = 5.0
"""Seconds of checking shards that are told of."""


@with_flags("pretrain", PretrainFlags)
@kept_random_state()
def pretrain(
    data: Path | str | Sequence[Path | str],
    out: Path | str,
    *,
    mixture: Sequence[float] | None = None,
    recipe: Path | str = "classic-fast",
    resume: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
    settings: Mapping[str, Any] | None = None,
    **flags: Unpack[PretrainFlags],
) -> dict[str, Any]:
    """Pre-train on a DATA folder and write a RUN folder; return what result.json holds.

    `data` may be several folders made with the same tokenizer; `mixture` gives the share of the rows from each (by
    default, that of their tokens). `flags` are those of the command line, and laid over the recipe, as `settings` are,
    nested as in its TOML, e.g. {"schedule": {"decay": "cosine"}}.

    >>> pretrain("data", "run", size="mini", minutes=20)["valid"]["mlm_loss"]  # takes 20 minutes  # doctest: +SKIP
    3.43

    With `resume` the run in `out` goes on from its last checkpoint; `overwrite` deletes the run in `out` when the new
    one is about to begin. A `dry_run` writes nothing, and prints and returns settings, sizes and disk.

    Raises UsageError for wrong words, BusyError where another process works in `out`, and DataError, ModelError or
    DiskSpaceError before anything is written; later DiskSpaceError where the disk fills up, TrainingError where going
    back to an earlier state did not help, and Interrupted on Ctrl-C or SIGTERM, both after a checkpoint is saved.
    """
    began = time.perf_counter()
    data, settings = with_mixture(data, mixture, merge(pretrain_settings(flags), settings or {}))
    out, recipe = Path(out), str(recipe)
    restarted = launched_before(out)
    if overwrite and resume:
        raise UsageError("--overwrite begins a new run and --resume goes on with an old one; give one of them")
    resume = resume or (restarted and (out / "config.toml").is_file())
    config = resume_settings(out, settings or {}) if resume else resolve(recipe, settings or {})
    with working(out, config, writes=not dry_run) as group:
        anew = not (resume or restarted) and group.first
        if anew:
            require_free(out, folders_of(data, config), overwrite=overwrite)
        if dry_run:
            return preview_run(data, out, config, group)
        check_data(folders_of(data, config), group)
        checkpoint = last_checkpoint(out, group) if resume else None
        parts = build(data, config, fresh=checkpoint is None, group=group)
        require_same(parts)
        position = Progress(drawn=[0] * len(config.schedule.phases))
        moving = TrainState(parts.trained, parts.optimizers, position, parts.average)
        good = resumed(checkpoint, moving, run_identity(parts), group=group) if checkpoint else None
        if group.first:
            auxiliary = parameter_count(parts.trained) - parameter_count(parts.model)
            require_space(out, disk_needed(parts.model, config, auxiliary=auxiliary), what="this run")
            if anew and overwrite:
                require_free(out, folders_of(data, config), overwrite=True, clear=True)
            write_json(out / "manifest.json", run_manifest(data, parts))
            write_toml(out / "config.toml", config)
        if not resume and (off := switched_off(recipe, settings or {})):
            note(off)
        if resume and checkpoint is None:
            note(f"{out} holds no checkpoint yet: its run starts again from the beginning")
        peak = run(data, out, parts, moving, good=good, began=began)
        figures = finish(data, out, parts, peak=peak, position=position)
        group.wait()
        return figures or dict(read_json(out / "result.json"))


def check_data(folders: Sequence[Path], group: Group) -> None:
    """Compare the shards of DATA folders with their checksums, each process its share; say so where it took a while.

    Raises DataError in all processes where one of them finds something wrong.
    """
    began, count, wrong = time.perf_counter(), 0, ""
    try:
        count = sum(check_shards(folder, rank=group.rank, processes=group.size) for folder in folders)
    except (BertwrightError, OSError) as error:
        if group.size == 1:
            raise
        wrong = str(error) or type(error).__name__
    wrong = group.first_message(wrong)
    if wrong:
        failure = DataError(wrong)
        failure.quiet = not group.first
        raise failure
    total, seconds = group.total({"bytes": count})["bytes"], time.perf_counter() - began
    if seconds > WORTH_SAYING:
        note(f"checked {human_bytes(total)} of shards in {seconds:.0f} s ({human_bytes(total / seconds)}/s)")


def run(data: Path, out: Path, parts: Parts, moving: TrainState, *, good: Snapshot | None, began: float) -> float:
    """Train from where `moving` stands to the end of the schedule, callbacks in place.

    `good` is the state to go back to, where that is known already. Returns the peak rate of the machine.
    """
    engine, schedule, position = parts.config.engine, parts.config.schedule, moving.position
    group = parts.group
    note(
        f"{parts.config.size}: {parameter_count(parts.model):,} parameters, {parts.precision} on {parts.device.type}, "
        f"{schedule.amount:g} {schedule.unit}{f', {group.size} processes' if group.size > 1 else ''}"
    )
    compiling = CompileListener.begin(data, out, parts, step=position.step)
    parts.start()
    peak = peak_of(parts)
    metrics = metrics_file(out, parts, peak=peak)
    if group.first:
        metrics.begin(position)
    console = ConsoleListener()
    guard = LossSpikeGuard(parts.config.guard, moving, good=good if parts.config.guard.attempts else None)
    saver = saving(out, parts, moving, guard, beside=metrics.path)
    checkpoint = checkpointing(out, parts, saver)
    left = group.broadcast(60 * (schedule.minutes or 0) - (time.perf_counter() - began))
    work = run_work(parts, peak=peak.flops, seconds=left)
    judge = evaluation(data, parts, position, work=work, until=checkpoint.until_asked)
    if (
        group.first and judge.times and engine.evaluations is None and judge.every is None
    ):  # later starts go by the same number
        keep_found(out, evaluations=judge.times)
    guard.went_back = partial(rewind_logs, metrics if group.first else None, judge, moving, schedule)
    told: list[Callback] = [metrics, console] if group.first else []
    callbacks: list[Callback] = [compiling, judge, peak, DivergenceListener(parts.trained, group), *told]
    callbacks += [end_if_diverged, guard, checkpoint]
    if not position.step:
        position.seconds = position.setup_seconds = group.broadcast(time.perf_counter() - began)
        if position.spent().progress(schedule) >= 1:
            raise TrainingError(
                f"all that comes before the first step took {position.seconds:.0f} s, and {schedule.minutes:g} minutes "
                f"were all there was: no step was made; delete {out} and give more --minutes"
                f"{'' if engine.compile is False else ', or --engine.compile false'}"
            )
    reports = train(
        compiling.step, parts.sources, schedule, position=position, accumulation=engine.accumulation, guard=guard
    )
    try:
        with tune_malloc(), checkpoint.listening_for_signals():
            compiling.start(checkpoint.until_asked)
            for report in reports:
                hear(report, callbacks, checkpoint)
            saver.wait()
    except TrainingError as error:
        raise TrainingError(f"{error}; {saved(parts, saver, position)}") from error
    except Interrupted:
        if group.first:
            write_report(out)
        group.wait()  # torchrun ends all processes when the first of them has ended
        raise
    finally:
        compiling.close()
        console.close()
        saver.close()
    return peak.flops


def saved(parts: Parts, saver: Saver, position: Progress) -> str:
    """Save the state of a run that ends by an error, unless its weights are no numbers; return where it is, in words.

    Resumed after its last step, such a run is judged again.
    """
    if not math.isfinite(weight_norm(parts.trained)):
        saver.wait()
        return f"checkpoints before that are untouched in {saver.run / 'checkpoints'}"
    position.heard = position.heard and position.spent().progress(parts.config.schedule) < 1
    saver.save()
    return f"the state before it is saved in {saver.wait()}"


def hear(report: StepReport, callbacks: Sequence[Callback], checkpoint: CheckpointListener) -> None:
    """Tell the callbacks of a step, and stop where one of them was asked to while it evaluated."""
    try:
        for callback in callbacks:
            callback(report)
    except StopAskedError:
        checkpoint.stop_unheard(report)


def peak_of(parts: Parts) -> PeakCallback:
    """Return the measured rate of all processes together, shortly before the first step, and what measures it again."""

    def measure() -> float:
        return parts.group.total({"peak": peak_flops(parts, stretches=2)})["peak"]

    return PeakCallback(measure, measure())


def metrics_file(out: Path, parts: Parts, *, peak: PeakCallback) -> MetricsCallback:
    """Return the callback that writes metrics.jsonl."""
    return MetricsCallback(
        out / "metrics.jsonl",
        every=parts.config.engine.log_every,
        lengths=[phase.length for phase in parts.config.schedule.phases],
        optimizer=parts.config.optimizer,
        peak=peak,
    )


def checkpointing(out: Path, parts: Parts, saver: Saver) -> CheckpointListener:
    """Return the callback that has checkpoints written when it is time."""
    engine = parts.config.engine
    lowest = best_valid_loss(out) if engine.keep_best else None
    return CheckpointListener(
        saver,
        minutes=engine.checkpoint_minutes,
        steps=engine.checkpoint_steps,
        group=parts.group,
        held_out=lambda valid: min(loss for name, loss in valid.items() if name in ("mlm_loss", f"{AVERAGE}mlm_loss")),
        best=math.inf if engine.keep_best and lowest is None else lowest,
    )


def rewind_logs(
    metrics: MetricsCallback | None, judge: EvaluateListener, moving: TrainState, schedule: ScheduleConfig
) -> None:
    """Untell what was said of steps that were undone: the lines of metrics.jsonl, and the evaluations made."""
    if metrics is not None:
        metrics.begin(moving.position)
    judge.rewind(moving.position, moving.position.spent().progress(schedule))


def evaluation(
    data: Path,
    parts: Parts,
    position: Progress,
    *,
    work: float,
    until: Callable[[Iterable[MaskedBatch]], Iterator[MaskedBatch]],
) -> EvaluateListener:
    """Return the callback that judges the model on held-out rows and shows what it predicts for masked sentences.

    Where the number of evaluations is not given, it is set from `work`, the operations of the run. `until(examples)`
    yields the examples, or ends the evaluation by an exception.
    """
    config = parts.config
    length = config.schedule.phases[0].length
    folders, rows = folders_of(data, config), config.engine.evaluation_rows
    objective = build_objective(
        for_evaluation(config.objective), vocab_size=parts.shape.vocab_size, mask_id=parts.tokenizer.special.mask
    )
    examples = [held_out_examples(folder, parts.tokenizer, objective, length=length, rows=rows) for folder in folders]
    count = sum(len(example.input_ids) for of_one in examples for example in of_one)
    times = config.engine.evaluations or evaluation_count(parts, objective, rows=count, work=work)
    samples = choose_samples(data, parts.tokenizer) if examples[0] else []
    of_folder = partial(
        held_out_figures, parts.model, objective, device=parts.device, cast=parts.cast, group=parts.group
    )

    def judge() -> dict[str, float]:
        # Several processes stop after the step: one that left half-way would leave the others waiting.
        ours = [until(rows) if parts.group.size == 1 else rows for rows in examples]
        judged = {name: of_folder(rows) for name, rows in zip(names_of(folders), ours, strict=True)}
        return mixed_figures(judged, shares_of(data, config))

    def figures() -> dict[str, float]:
        raw = judge()
        if parts.average is None:
            return raw
        with parts.average.in_place():
            return raw | {f"{AVERAGE}{name}": value for name, value in judge().items()}

    def predictions() -> list[dict[str, Any]]:
        with whole_for_methods(parts):
            return predict_samples(parts.model, parts.tokenizer, samples)

    every = None if config.engine.evaluate_every is None else Interval.parse(config.engine.evaluate_every)
    callback = EvaluateListener(held_out=figures, samples=predictions, times=times if any(examples) else 0, every=every)
    callback.rewind(position, position.spent().progress(config.schedule), behind=0 if position.heard else 1)
    return callback


def finish(data: Path, out: Path, parts: Parts, *, peak: float, position: Progress) -> dict[str, Any]:
    """Write the model folder of a run that is done, its result.json and its report; return the figures.

    The first process writes, and alone has the figures.
    """
    group = parts.group
    figures = result(out, parts, peak=peak, position=position) if group.first else {}
    if group.any(figures.get("weights") == "average") and parts.average is not None:
        parts.average.swap()
    model = whole_model(parts)
    if not group.first:
        return figures
    if figures["weights"] == "average" and figures["samples"]:
        figures["samples"] = predict_samples(model, parts.tokenizer, choose_samples(data, parts.tokenizer))
    if parts.config.model.init == "cooccurrence" and isinstance(model, BertForPreTraining):
        shrink_embeddings(model)  # the start has large ones, which fine-tuning would hardly move
    words = parts.tokenizer.path.parent
    if has_own_folder(model):
        figures["next_sentence_model"] = FOLDER
        save_next_sentence(model, words, out / FOLDER, card=next_sentence_card(out.name, figures))
    save_model(model, words, out / "model", card=model_card(out.name, figures))
    write_json(out / "result.json", figures)
    write_report(out)
    print_facts(f"pre-trained: {out / 'model'}", facts(figures))
    return figures
