"""Sets up a run in which a student of general use is pre-trained: its data, start, loss, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from bertwright.data.pretraining.dataset import Dataset
from bertwright.device import pick_device, product_dtype, resolve_precision
from bertwright.distillation.config import PRETRAIN_WEIGHTS, DistillConfig, compose_distillation
from bertwright.distillation.distilled_task import put, weights_of
from bertwright.distillation.pretrain_objective import PretrainDistillation, TracedPretraining
from bertwright.distillation.projection import TOKENS, fit
from bertwright.distillation.states import StateLosses, new_projections
from bertwright.distillation.student import begin_student, check_start, is_copied, student_shape
from bertwright.distillation.teachers import same_tokens
from bertwright.distillation.traces import matched_layers, trace
from bertwright.errors import ConfigError, ModelError
from bertwright.hub.encoder_folder import read_config, read_model
from bertwright.log import note, working
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.encoder import Encoder
from bertwright.nested import merge
from bertwright.objectives.base import PretrainingObjective, Rows, unhidden
from bertwright.objectives.combine import build_objective
from bertwright.rng import key_of
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.auxiliary import ModelWithAuxiliary
from bertwright.train.held_out import fixed_examples
from bertwright.train.optim.optimizers import build_optimizers
from bertwright.train.setup.pretrain_config import PretrainConfig, resolve
from bertwright.train.setup.pretrain_loader import PretrainLoader
from bertwright.train.state import Progress, TrainState
from bertwright.train.step import Engine
from bertwright.types import Batch, MaskedBatch, TokenRows, flat_sums, part_figures

USUAL: dict[str, Any] = {
    "model": {"dropout": 0.0, "attention_dropout": 0.0},
    "objective": {"next_sentence": False},
    "data": {"fill_rows": True},
    "optimizer": {"learning_rate": 5e-4},
    "schedule": {"phases": [{"length": 128, "rows": 32, "share": 1.0}]},
    "engine": {"compile": False, "evaluation_rows": 256},
}
"""What is laid over the recipe `classic`: no sentence pairs, no dropout, rows of 128."""
RECIPE = "classic"


class AsItIs:
    """Hides nothing of rows of single segments."""

    rows: Rows = "single"

    def corrupt(self, batch: Batch, generator: torch.Generator) -> MaskedBatch:
        """Return the rows as they are."""
        return unhidden(batch)


class DistillLoader(PretrainLoader):
    """The micro-batches of a run in which a teacher reads every row too."""

    def __init__(
        self, dataset: Dataset, config: PretrainConfig, objective: PretrainingObjective, shapes: tuple[ModelConfig, ...]
    ) -> None:
        """Measure the data; `shapes` are those of student and teacher."""
        super().__init__(dataset, config, objective, shapes[0])
        self.teacher_shape = shapes[1]

    def _flops(self, phase: int, fraction: float, *, rows: int) -> int:
        length = self.schedule.phases[phase].length
        masked = self.objective.masked_slots(length, fraction)
        of_teacher = training_flops(self.teacher_shape, rows=rows, length=length, masked=length, outputs=0) // 3
        return training_flops(self.shape, rows=rows, length=length, masked=masked) + of_teacher


@dataclass(frozen=True, eq=False)
class DistilledPretraining:
    """What a run is made of."""

    state: TrainState
    loader: DistillLoader
    objective: PretrainDistillation
    engine: Engine
    loss: TracedPretraining
    held_out: tuple[MaskedBatch, ...]
    taken: tuple[int, ...]
    predicts_words: bool

    @property
    def student(self) -> Encoder:
        """The student."""
        return self.loss.student

    def evaluate(self) -> dict[str, float]:
        """Return the mean of each loss over held-out rows, and their weighted sum as "loss"."""
        model, totals, total = self.state.model, dict[str, float](), 0.0
        model.eval()
        with torch.no_grad():
            for example in self.held_out:
                loss = self.loss(example.to(self.engine.device))
                total += float(loss.total) / len(self.held_out)
                for name, value in flat_sums(loss.parts).items():
                    totals[name] = totals.get(name, 0.0) + float(value)
        model.train()
        return part_figures(totals) | {"loss": round(total, 6)} if self.held_out else {}


def resolve_pretraining(settings: Mapping[str, Any]) -> PretrainConfig:
    """Return the settings of a run, without those of the distillation; raises ConfigError where they do not fit it."""
    config = resolve(RECIPE, merge(USUAL, settings))
    if config.engine.compile is True:
        raise ConfigError("engine.compile: a teacher beside the student is not compiled; leave it out")
    if config.engine.accumulation > 1:
        raise ConfigError("engine.accumulation: a distilled step is computed at once; give a smaller --batch-size")
    if config.engine.parts != 1:
        raise ConfigError("engine.parts: a distilled step is computed at once; give a smaller --batch-size")
    if config.average.name != "none" or config.data.pack or config.objective.chosen != ("mlm",):
        raise ConfigError("distill pretrain knows no average.name, data.pack and objectives but mlm; leave them out")
    return config


def resolve_distillation(settings: Mapping[str, Any], teacher: Path, *, predicts_words: bool) -> DistillConfig:
    """Return the settings of the distillation; a teacher that predicts no words teaches none."""
    given: Mapping[str, Any] = settings.get("weights", {})
    usual = dict(PRETRAIN_WEIGHTS) if predicts_words else PRETRAIN_WEIGHTS | {"logits": 0.0}
    config = compose_distillation({"weights": usual}, settings)
    if not predicts_words and (given.get("logits") or given.get("labels")):
        raise ModelError(
            f"{teacher} has no head that predicts masked words, which a student could learn; leave --logits and "
            "--labels out"
        )
    weights = config.weights
    if not (weights.logits or weights.labels or weights.reads_states):
        raise ConfigError("distill.weights: every loss weighs 0, so there is nothing to learn; give one a weight")
    return config


@dataclass(frozen=True, eq=False)
class Models:
    """The models of a run, as they are found in their folders.

    shape, taken    of the student, and the teacher's block, from 1, that each of its blocks stands for
    folder          the student's own; None where it is made from the teacher
    predicts_words  whether the teacher does
    """

    teacher: Encoder
    shape: ModelConfig
    taken: tuple[int, ...]
    folder: Path | None
    distill: DistillConfig
    predicts_words: bool


def open_models(
    dataset: Dataset, settings: Mapping[str, Any], *, teacher_folder: Path, student_folder: Path | None
) -> Models:
    """Return the teacher, the shape of the student and what it learns; raises ModelError or ConfigError."""
    if not same_tokens(load_tokenizer(teacher_folder), dataset.tokenizer):
        raise ModelError(
            f"{dataset.folders[0]} was not prepared with the tokenizer of {teacher_folder}; prepare the text again "
            f"with --tokenizer {teacher_folder}"
        )
    teacher, report = read_model(teacher_folder)
    predicts_words = not report.lacks("mlm_head")
    distill = resolve_distillation(settings, teacher_folder, predicts_words=predicts_words)
    if student_folder is None:
        shape, taken = student_shape(distill.student, teacher.config)
        check_start(distill.student, shape, teacher)
    else:
        shape = read_config(student_folder)
        taken = matched_layers(shape.layers, teacher.config.layers)
        if type(shape) is not type(teacher.config) or shape.vocab_size != teacher.config.vocab_size:
            raise ModelError(
                f"{student_folder} is of another architecture or vocabulary than {teacher_folder}; give a student of "
                "the same, or --layers and --width"
            )
    return Models(teacher.eval().requires_grad_(False), shape, taken, student_folder, distill, predicts_words)


def set_up_pretraining(
    dataset: Dataset, config: PretrainConfig, models: Models, *, fresh: bool
) -> DistilledPretraining:
    """Return a run at its beginning; not `fresh`, its weights are any: they will be loaded.

    Raises DataError or ConfigError with the reason where its parts do not fit.
    """
    teacher, shape, weights = models.teacher, models.shape, models.distill.weights
    states = StateLosses.of(models.distill, shape, teacher.config, models.taken)
    masked = build_objective(
        config.objective, vocab_size=dataset.tokenizer.vocab_size, mask_id=dataset.tokenizer.special.mask
    )
    hider = masked if weights.logits or weights.labels else None
    objective = PretrainDistillation(hider, weights.logits, weights.labels, models.distill.temperature)
    device = pick_device()
    engine = Engine(
        device=device,
        seed=config.seed,
        clip_norm=config.optimizer.clip_norm,
        precision=resolve_precision(config.engine.precision, device),
    )
    loader = DistillLoader(dataset, config, masked, (shape, teacher.config))
    torch.manual_seed(key_of("student", config.seed))
    projections = new_projections(shape, teacher.config, weights)
    student = _student(models, loader, projections, fresh=fresh)
    if hider is None:
        why = "no loss is about words" if models.predicts_words else "the teacher predicts no words"
        note(f"{why}, so the student has no head that predicts them")
        student.drop_heads()
    teacher.to(device)
    model = ModelWithAuxiliary(student, projections).to(device).train()
    state = TrainState(
        model,
        build_optimizers(model, config.optimizer, dtype=product_dtype(engine.precision)),
        Progress(drawn=[0] * len(config.schedule.phases)),
        callbacks_done=False,
    )
    engine.forward_loss = loss = TracedPretraining(student, teacher, projections, objective, states, engine.cast)
    held_out = held_out_rows(dataset, config, hider)
    return DistilledPretraining(state, loader, objective, engine, loss, held_out, models.taken, hider is not None)


def held_out_rows(
    dataset: Dataset, config: PretrainConfig, masked: PretrainingObjective | None
) -> tuple[MaskedBatch, ...]:
    """Return the held-out rows of a run, masked where words are predicted; none, with a note, where there are none."""
    shards = dataset.valid[0]
    if shards is None:
        note("no held-out split in the data, so nothing is evaluated (prepare --valid-fraction 0.01 makes one)")
        return ()
    objective: Any = masked or AsItIs()
    length, rows = config.schedule.phases[0].length, config.engine.evaluation_rows
    return tuple(fixed_examples(shards, dataset.tokenizer, objective, length=length, rows=rows))


def _student(models: Models, loader: PretrainLoader, projections: nn.ModuleList, *, fresh: bool) -> Encoder:
    """Return the student as it begins, and give `projections` what is known of them."""
    if models.folder is not None:
        return read_model(models.folder)[0]
    teacher, wanted, rows = models.teacher, models.distill.student, list[TokenRows]()
    if not fresh:
        wanted = wanted.model_copy(update={"start": "noise"})
    if is_copied(models.shape, teacher.config) or wanted.start == "noise":
        return begin_student(wanted, models.shape, models.taken, teacher, rows)
    while sum(int(one.attention_mask.sum()) for one in rows) < TOKENS:
        rows.append(loader.sources[0].draw(len(rows)))
    with working("the student is made from the teacher"), torch.no_grad():
        student = begin_student(wanted, models.shape, models.taken, teacher, rows)
        if projections:
            _fit_projections(projections, student, teacher, models.taken, rows)
    return student


def _fit_projections(
    projections: nn.ModuleList, student: Encoder, teacher: Encoder, taken: tuple[int, ...], rows: list[TokenRows]
) -> None:
    """Have each of `projections` give, of the student's states, what is nearest to the teacher's."""
    found, taught = [], []
    for batch in rows:
        mask = batch.attention_mask
        found.append([one[mask] for one in trace(student, batch).hidden])
        hidden = trace(teacher, batch).hidden
        taught.append([hidden[layer][mask] for layer in (0, *taken)])
    for layer, ours, theirs in zip(projections, zip(*found, strict=True), zip(*taught, strict=True), strict=True):
        put(layer, *fit(torch.cat(list(ours)), torch.cat(list(theirs))))


def pretraining_identity(
    identity: Mapping[str, Any], distill: DistillConfig, teacher: Path, student: Path | None
) -> dict[str, Any]:
    """Return what must be the same for a run to be gone on with."""
    start: dict[str, str] | Literal["the teacher"] = "the teacher" if student is None else weights_of(student)
    return {
        **identity, "distillation": distill.model_dump(mode="json"), "teacher": weights_of(teacher), "student": start
    }  # fmt: skip
