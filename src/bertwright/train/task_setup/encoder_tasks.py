"""Turns settings, a MODEL folder and labelled files into the parts of a fine-tuning run: rows, model, step, batches."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.data.prefetch import Prefetcher
from bertwright.device import matmul_rate, pick_device, resolve_precision, try_compiled_blocks
from bertwright.errors import CorpusError
from bertwright.hub.cards.fine_tuned import task_card
from bertwright.hub.encoder_folder import read_model
from bertwright.hub.task_folder import save_fine_tuned
from bertwright.inference.scoring import score_rows
from bertwright.log import note
from bertwright.model.config import training_flops
from bertwright.model.encoder import SEQUENCE_HEADS, kept_bytes
from bertwright.model.layers.dropout import Dropout
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import FineTuned
from bertwright.rng import key_of
from bertwright.tasks.base import Task
from bertwright.tasks.by_name import begin_task, task_named
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.metrics import figure_names
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.trained import settings_to_keep
from bertwright.tasks.unlabelled import UnlabelledFile
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.callbacks import Callback
from bertwright.train.loop import PhaseSource
from bertwright.train.parallel.group import BatchSlice
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.step import TrainStep, forward_loss_of
from bertwright.train.task_setup.finetune_config import FinetuneConfig
from bertwright.train.task_setup.run_of_task import Split, Tuning
from bertwright.train.task_setup.transfer import check_transfer, learning_rates, objective_of, treat, unfreezing
from bertwright.types import LabelledBatch, TokenRows

WORTH_COMPILING = {"cpu": 2e13, "cuda": 2e15}
"""Floating-point operations of a run above which compiling its steps takes less time than it saves: some 30 s on two
cores, where compiled steps take three quarters of the time (MiniLM, 32 rows: 163 examples/s become 196)."""


@dataclass(frozen=True)
class TuneParts(Tuning):
    """The parts of a run for a head over the encoder."""

    task: Task[Any]

    def fresh_model(self, seed: int) -> FineTuned:
        """Return the pre-trained encoder with a new head."""
        return fresh_model(self, seed)

    def step(self, model: FineTuned, seed: int) -> TrainStep:
        """Return the training step of a model."""
        return tune_step(self, model, seed)

    def batches(self, seed: int) -> tuple[PhaseSource, ScheduleConfig]:
        """Return the batches of a seed, and their schedule."""
        return tune_batches(self, seed)

    def callbacks(self, model: FineTuned, progress: float) -> list[Callback]:
        """Return what thaws the model, set to `progress`, where it is to thaw."""
        thaw = unfreezing(model, self.config.transfer)
        if thaw is None:
            return []
        thaw.thaw(progress)
        return [thaw]

    def peak_flops(self, *, stretches: int = 6) -> float:
        """Return the measured rate of this machine."""
        return tune_peak_flops(self, stretches=stretches)

    def settled(self, dev: EvalResult) -> Self:
        """Return the parts with what the task sets by looking at the judgement on dev."""
        return replace(self, task=self.task.settled(dev))

    def save(self, model: FineTuned, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the folder of the class Hugging Face has for such a head."""
        save_fine_tuned(
            model,
            self.tokenizer.path.parent,
            out,
            labels=self.task.labels,
            problem=self.task.problem,
            own=settings_to_keep(self.task),
            max_length=self.config.batches.max_length,
            card=task_card(name, figures, names=figure_names(figures["dev"], positive=self.task.positive)),
        )

    def judge_along(self, model: FineTuned) -> dict[str, float]:
        """Return the figures of a model on dev while it trains, in the precision it trains in.

        Scores are float32: between 2 and 4 bfloat16 knows steps of 0.016 alone, and what is equal has no order.
        """
        dev = self.splits["dev"]
        cast = nullcontext if self.task.problem == "regression" else self.cast
        logits = score_rows(model, dev.rows, device=self.device, cast=cast)
        return self.task.with_crf(model).judge(logits, dev.examples).figures

    def judge(self, model: FineTuned, split: str) -> EvalResult:
        """Judge a finished model on a split in float32, as whoever loads it will find it, with its worst mistakes."""
        chosen = self.splits[split]
        logits = score_rows(model, chosen.rows, device=self.device)
        return self.task.with_crf(model).judge(logits, chosen.examples, mistakes=self.config.watch.mistakes)


def build_finetune(config: FinetuneConfig, folder: Path, files: dict[str, Path]) -> TuneParts:
    """Read and encode the files of each split, "train" first; raises InputError with the reason where one is unfit."""
    task_named(config.task)
    tokenizer = load_tokenizer(folder)
    shape = read_model(folder)[0].config
    check_transfer(config, layers=shape.layers, folder=folder)
    fraction = config.dev_fraction_for(files)
    task, examples = begin_task(config.task, config.head, files["train"], config.columns, dev_fraction=fraction)
    task = task.with_saved_settings(config.own(type(task)))
    unlabelled: dict[str, UnlabelledFile] = {}
    for name, path in files.items():
        without = None if name == "train" else task.unlabelled(path)
        if without is not None and name == "dev":
            raise CorpusError(
                f"{path} has no labels to choose a checkpoint by; leave --dev out, and a share of the training file is "
                "held out instead"
            )
        if without is not None:
            unlabelled[name] = without
        elif name != "train":
            examples[name] = task.read(path)
    config = config.fitted(
        width=shape.hidden_size, positions=shape.max_positions, faster=config.transfer.faster(shape.layers)
    )
    encoder = TextEncoder(tokenizer, max_length=config.batches.max_length)
    splits = {name: Split(part, task.encode(part, encoder)) for name, part in examples.items()}
    device = pick_device()
    return TuneParts(
        config=config,
        folder=folder,
        shape=shape,
        tokenizer=tokenizer,
        task=task,
        splits=splits,
        device=device,
        precision=resolve_precision(config.precision, device),
        unlabelled=unlabelled,
    )


def fresh_model(parts: TuneParts, seed: int) -> FineTuned:
    """Return the pre-trained encoder with a new head drawn from `seed`, as the settings say to treat it."""
    torch.manual_seed(key_of("head", seed))
    encoder, report = read_model(parts.folder)
    transfer = parts.config.transfer
    outputs = len(parts.task.labels)
    crf = parts.task.new_crf()
    model = FineTuned(encoder, part=parts.task.part, outputs=outputs, dropout=transfer.head_dropout, crf=crf)
    parts.task.start_head(model.classifier)
    drawn = sorted({name.split(".")[0] for name in report.initialised if name in encoder.state_dict()})
    if drawn:
        note(f"{parts.folder} has no weights for {', '.join(drawn)}: drawn at random, and trained with the head")
    treat(model, transfer)
    return model.to(parts.device)


def tune_step(parts: TuneParts, model: FineTuned, seed: int) -> TrainStep:
    """Return the training step of a model on a task."""
    config = parts.config
    objective = objective_of(parts.task, model, config.transfer)
    step = TrainStep(
        model=model,
        objective=objective,
        optimizers=parts.optimizers(model, rates=learning_rates(model, config.transfer)),
        forward_loss=forward_loss_of(model, objective, parts.cast),
        average=None,
        clip_norm=config.optimizer.clip_norm,
        seed=seed,
        device=parts.device,
    )
    rows = parts.splits["train"].rows
    each = (2 if config.transfer.r_drop else 1) * (1 if rows.together is None else int(rows.together.max()))
    parts.split_batches(step, partial(kept_bytes, parts.shape), rows.lengths, each=each)
    work = len(rows) * tune_flops(parts, rows=1, length=round(float(np.mean(rows.lengths))))
    if task_worth_compiling(parts, work):
        compile_blocks(model, step, tune_source(parts, seed).draw(0))
    return step


def task_worth_compiling(parts: Tuning, work: int) -> bool:
    """Say whether steps are to run compiled: as the settings say, or by the `work` of an epoch, in operations.

    Where blocks thaw along the run they never are: each would have to be compiled anew.
    """
    if parts.config.transfer.unfreeze:
        return False
    if parts.config.engine.compile is not None:
        return parts.config.engine.compile
    return work * parts.config.schedule.epochs > WORTH_COMPILING[parts.device.type]


def compile_blocks(model: FineTuned | SentenceEncoder, step: TrainStep, batch: TokenRows) -> None:
    """Compile the blocks of the model, with a batch to try; leaves nothing behind but that, and says so if it fails."""

    def attempt() -> None:
        model.train()
        step.backward(0, [(BatchSlice(0), batch)], micro_batches=1, progress=0.0)

    drops = any(isinstance(module, Dropout) and module.share > 0 for module in model.encoder.modules())
    reason = try_compiled_blocks(model.encoder.get_submodule("blocks").children(), attempt, drops=drops)
    model.zero_grad(set_to_none=True)
    if reason:
        note(f"running uncompiled, slower: the compiler did not work here ({reason})")


def tune_source(parts: TuneParts, seed: int) -> LabelledSource[LabelledBatch]:
    """Return the batches of a seed by their number."""
    config, rows = parts.config.batches, parts.splits["train"].rows
    return LabelledSource(rows.drawn(), batch_rows=config.rows, tokens=config.tokens, seed=seed)


def tune_flops(parts: TuneParts, *, rows: int, length: int) -> int:
    """Return the floating-point operations of a step over rows of like length that ask as much as rows of train do."""
    train = parts.splits["train"].rows
    asked = length if train.asked is None else train.usual_asked
    averaged = parts.task.part in SEQUENCE_HEADS and parts.shape.averages_rows
    outputs = len(parts.task.labels)
    return training_flops(parts.shape, rows=rows, length=length, masked=asked, outputs=outputs, averaged=averaged)


def tune_batches(parts: TuneParts, seed: int) -> tuple[PhaseSource, ScheduleConfig]:
    """Return the batches of a seed, and the schedule that is as many steps as they make."""
    config, rows, source = parts.config, parts.splits["train"].rows, tune_source(parts, seed)

    def flops(batch: TokenRows, _: float) -> int:
        count, length = batch.input_ids.shape
        return tune_flops(parts, rows=count, length=length)

    longest = max(8, int(rows.lengths.max()))
    schedule = ScheduleConfig(
        steps=source.steps(config.schedule.epochs),
        warmup=config.schedule.warmup,
        phases=(Phase(length=longest, rows=config.batches.rows, share=1.0),),
    )
    draw = Prefetcher(lambda t: source.draw(t).pinned()) if parts.device.type == "cuda" else source.draw
    return PhaseSource(draw=draw, rows_per_epoch=len(rows), flops=flops), schedule


def tune_peak_flops(parts: TuneParts, *, stretches: int = 6) -> float:
    """Return the measured rate of this machine on the largest block product of a typical step."""
    drawn = parts.splits["train"].rows.drawn()
    tokens = round(float(np.mean(drawn.lengths)) * min(parts.config.batches.rows, len(drawn)))
    width, widest = parts.shape.hidden_size, parts.shape.widest_product
    return matmul_rate(tokens, width, widest, precision=parts.precision, device=parts.device, rounds=stretches)
