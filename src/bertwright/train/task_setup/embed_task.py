"""Turns settings, a MODEL folder and files of texts into the parts of a run that trains sentence vectors.

They are those of any fine-tuning run (see run_of_task.py), but that an example is several rows, that there is no
head, and that what the dev file holds, pairs or scores, says how a model is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from bertwright.config import Section, compose
from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.data.prefetch import Prefetcher
from bertwright.device import matmul_rate, pick_device, resolve_precision
from bertwright.errors import ConfigError, CorpusError, UsageError
from bertwright.hub.cards.sentence import sentence_card
from bertwright.hub.sentence_folder import SentenceSettings, read_sentence_folder, save_sentence_model
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.inference.vectors import row_vectors
from bertwright.log import note
from bertwright.model.config import training_flops
from bertwright.model.encoder import kept_bytes
from bertwright.model.layers.dropout import Dropout
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import depths, freeze
from bertwright.tasks.columns import ColumnsConfig
from bertwright.tasks.embedding.reader import Kind, Sentences, read_sentences
from bertwright.tasks.embedding.task import FIGURES, Embed, EmbedConfig, judge_sentences
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import split_dev
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.loop import PhaseSource
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.step import TrainStep, forward_loss_of
from bertwright.train.task_setup.encoder_tasks import compile_blocks, task_worth_compiling
from bertwright.train.task_setup.finetune_config import BatchConfig, FinetuneConfig
from bertwright.train.task_setup.run_of_task import Split, Tuning
from bertwright.types import TokenRows

SIMCSE_DROPOUT = 0.1
"""Dropout of an encoder that has none, where it alone tells the two readings of a text apart (Gao et al., 2021)."""
KNOWN_TRANSFER = {"freeze", "dropout", "layer_decay"}
DEV_FILES = "pairs (two columns of texts that belong together) or pairs with a score"


class SentenceBatchConfig(BatchConfig):
    """How examples make a step."""

    rows: int = Field(default=64, ge=1)
    """Examples a step: each is told from all others of it (Gao et al., 2021, use 64 for SimCSE)."""


class EmbedTuneConfig(FinetuneConfig):
    """Everything a run that trains sentence vectors is made of, resolved."""

    batches: SentenceBatchConfig = SentenceBatchConfig()
    embed: EmbedConfig = EmbedConfig()


def resolve_embed(settings: Mapping[str, Any]) -> EmbedTuneConfig:
    """Return the defaults with `settings` laid over them; raises ConfigError, also for what other tasks alone know."""
    config = compose(EmbedTuneConfig, {"task": Embed.name, **settings})
    config.transfer.refuse_all_but(KNOWN_TRANSFER, task=Embed.name)
    config.head.refuse("multi_label", "class_weights", "crf", "positive", task=Embed.name)
    compose(Section, config.options)  # there are none
    return config


@dataclass(frozen=True)
class EmbedParts(Tuning):
    """The parts of a run for an encoder without a head."""

    config: EmbedTuneConfig
    task: Embed
    reading: SentenceSettings
    """How vectors are made of hidden states."""

    def facts(self) -> dict[str, Any]:
        """Return what result.json says of sentence vectors alone."""
        return {"objective": self.task.kind, "pooling": self.reading.pooling, "normalize": self.reading.normalize}

    def judge_along(self, model: SentenceEncoder) -> dict[str, float]:
        """Return the figures of a model on dev while it trains, in the precision it trains in."""
        dev = self.splits["dev"]
        vectors = row_vectors(model, dev.rows.texts, device=self.device, cast=self.cast)
        return judge_sentences(vectors, dev.examples).figures

    def judge(self, model: SentenceEncoder, split: str) -> EvalResult:
        """Judge a finished model on a split in float32, with its worst mistakes."""
        chosen = self.splits[split]
        vectors = row_vectors(model, chosen.rows.texts, device=self.device)
        return judge_sentences(vectors, chosen.examples, mistakes=self.config.watch.mistakes)

    def fresh_model(self, seed: int) -> SentenceEncoder:
        """Return the encoder of the folder, as the settings say to treat it; nothing of it is drawn from `seed`."""
        encoder, _ = read_sentence_folder(self.folder)
        model = SentenceEncoder(
            encoder, pooling=self.reading.pooling, normalize=self.reading.normalize, skip=self.reading.skip
        )
        freeze(model, self.config.transfer.frozen(self.shape.layers))
        self.set_dropout([part for part in encoder.modules() if isinstance(part, Dropout)])
        return model.to(self.device)

    def set_dropout(self, parts: Sequence[Dropout]) -> None:
        """Set the dropout asked for; where it alone tells two readings of a text apart, there must be some."""
        share = self.config.transfer.dropout
        if share is None and self.task.kind == "texts" and not any(part.share for part in parts):
            note(f"{self.folder} has no dropout, which tells two readings of a text apart: {SIMCSE_DROPOUT} is used")
            share = SIMCSE_DROPOUT
        for part in parts:
            part.share = part.share if share is None else share

    def step(self, model: SentenceEncoder, seed: int) -> TrainStep:
        """Return the training step of a model."""
        decay = self.config.transfer.layer_decay
        rates = {
            name: decay ** (self.shape.layers - min(depth, self.shape.layers)) for name, depth in depths(model).items()
        }
        step = TrainStep(
            model=model,
            objective=self.task,
            optimizers=self.optimizers(model, rates=rates if decay < 1 else None),
            forward_loss=forward_loss_of(model, self.task, self.cast),
            average=None,
            clip_norm=self.config.optimizer.clip_norm,
            seed=seed,
            device=self.device,
        )
        rows = self.splits["train"].rows
        self.split_batches(step, partial(kept_bytes, self.shape), rows.texts.lengths, each=rows.members.shape[1])
        work = rows.members.size * self.flops(1, round(float(np.mean(rows.texts.lengths))))
        if task_worth_compiling(self, work):
            compile_blocks(model, step, self.batches(seed)[0].draw(0))
        return step

    def batches(self, seed: int) -> tuple[PhaseSource, ScheduleConfig]:
        """Return the batches of a seed, and the schedule that is as many steps as they make."""
        config, rows = self.config, self.splits["train"].rows
        source = LabelledSource(rows, batch_rows=config.batches.rows, tokens=config.batches.tokens, seed=seed)

        def flops(batch: TokenRows, _: float) -> int:
            return self.flops(*batch.input_ids.shape)

        schedule = ScheduleConfig(
            steps=source.steps(config.schedule.epochs),
            warmup=config.schedule.warmup,
            phases=(Phase(length=max(8, int(rows.texts.lengths.max())), rows=config.batches.rows, share=1.0),),
        )
        draw = Prefetcher(lambda t: source.draw(t).pinned()) if self.device.type == "cuda" else source.draw
        return PhaseSource(draw=draw, rows_per_epoch=rows.members.size, flops=flops), schedule

    def flops(self, rows: int, length: int) -> int:
        """Return the floating-point operations of training on so many texts of so many tokens."""
        return training_flops(self.shape, rows=rows, length=length, masked=length, outputs=0)

    def peak_flops(self, *, stretches: int = 6) -> float:
        """Return the measured rate of this machine on the largest block product of a typical step."""
        rows = self.splits["train"].rows
        texts = min(self.config.batches.rows, len(rows)) * rows.members.shape[1]
        tokens = round(float(np.mean(rows.texts.lengths)) * texts)
        width, widest = self.shape.hidden_size, self.shape.widest_product
        return matmul_rate(tokens, width, widest, precision=self.precision, device=self.device, rounds=stretches)

    def save(self, model: SentenceEncoder, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the model folder `out` of a run called `name`, its card made from the figures of result.json."""
        card = sentence_card(name, figures, pooling=model.pooling, normalize=model.normalize)
        length = self.config.batches.max_length
        words, prompts = self.tokenizer.path.parent, self.reading.prompts
        save_sentence_model(model, words, out, max_length=length, prompts=prompts, card=card)


def build_embed(config: EmbedTuneConfig, folder: Path, files: Mapping[str, Path]) -> EmbedParts:
    """Read and encode the files of each split, "train" first; raises InputError with the reason where one is unfit."""
    tokenizer = load_tokenizer(folder)
    encoder, said = read_sentence_folder(folder)
    shape, own = encoder.config, config.embed
    if config.transfer.frozen(shape.layers) >= shape.layers:
        raise ConfigError(f"transfer.freeze: {folder} has {shape.layers} blocks, of which one must learn; freeze fewer")
    usual = said.normalize if is_sentence_folder(folder) else True
    normalize = usual if own.normalize is None else own.normalize
    examples = read_splits(config, files)
    config = config.fitted(width=shape.hidden_size, positions=said.max_length)
    texts = TextEncoder(tokenizer, max_length=config.batches.max_length, prompt=said.prompts.text)
    device = pick_device()
    return EmbedParts(
        config=config,
        folder=folder,
        shape=shape,
        reading=replace(said, pooling=own.pooling or said.pooling, normalize=normalize),
        tokenizer=tokenizer,
        task=Embed(examples["train"].kind, FIGURES[examples["dev"].kind], own.temperature, own.symmetric),
        splits={name: Split(part, part.encode(texts)) for name, part in examples.items()},
        device=device,
        precision=resolve_precision(config.precision, device),
    )


def read_splits(config: EmbedTuneConfig, files: Mapping[str, Path]) -> dict[str, Sentences]:
    """Return the examples of each file: train as the objective says, dev and test as their own columns tell."""
    own, told = config.embed, config.columns
    if told.label_names:
        raise UsageError("--label-names is for tag; embed takes scores as they are written, so leave it out")
    wanted: Kind | None = None if own.objective == "auto" else own.objective
    examples = {"train": read_sentences(files["train"], told, negative=own.negative_column, kind=wanted)}
    fraction = config.dev_fraction_for(files)
    if fraction is not None:
        if examples["train"].kind == "texts":
            raise CorpusError(
                f"{files['train']} holds texts alone, by a share of which nothing can be judged; give --dev {DEV_FILES}"
            )
        examples["train"], examples["dev"] = split_dev(examples["train"], fraction=fraction)
        for name, part in examples.items():
            if part.scores is not None and np.ptp(part.scores) == 0:
                raise CorpusError(
                    f"{files['train']} has too few scores to divide: all of {name} would be the same; give --dev"
                )
    for name, path in files.items():
        if name == "train":
            continue
        examples[name] = read_sentences(path, ColumnsConfig(encoding=told.encoding), kind=None)
        kind = examples[name].kind
        if kind == "texts":
            raise CorpusError(
                f"{path} holds texts alone, by which nothing can be judged; give {DEV_FILES} (vectors of texts alone: "
                "bertwright embed)"
            )
        if kind != examples["dev"].kind:
            other = files.get("dev", files["train"])
            raise CorpusError(f"{path} holds {kind} but {other} {examples['dev'].kind}; give files of one kind")
    return examples
