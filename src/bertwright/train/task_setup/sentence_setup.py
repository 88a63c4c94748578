"""Sets up training of sentence vectors: an example is several rows, there is no head.

What the dev file holds, pairs or scores, says how a model is evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from bertwright.errors import ConfigError
from bertwright.hub.cards.model_cards import sentence_card
from bertwright.hub.sentence_folder import (
    SentenceSettings,
    read_sentence_folder,
    read_sentence_settings,
    save_sentence_model,
)
from bertwright.hub.sentence_layout import is_sentence_folder
from bertwright.inference.scoring import row_vectors
from bertwright.log import note
from bertwright.model.config import ModelConfig, training_flops
from bertwright.model.layers.dropout import Dropout
from bertwright.model.sentence_encoder import SentenceEncoder
from bertwright.model.task_model import freeze
from bertwright.tasks.embedding.mining import mine_negatives
from bertwright.tasks.embedding.task import Embed, evaluate_vectors
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import EncodedExamples
from bertwright.train.callbacks.base import Callback
from bertwright.train.callbacks.too_easy import TooEasyCallback
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.finetune_config import EmbedTuneConfig
from bertwright.train.task_setup.transfer import learning_rates, set_dropout

SIMCSE_DROPOUT = 0.1
"""Dropout of an encoder that has none, where it alone makes two views of a text differ (Gao et al., 2021)."""


@dataclass(frozen=True)
class SentenceSetup(TaskSetup):
    """What seeds have in common that train sentence vectors."""

    config: EmbedTuneConfig
    task: Embed

    @classmethod
    def fitted(cls, config: EmbedTuneConfig, encoder_config: ModelConfig, folder: Path) -> tuple[EmbedTuneConfig, str]:
        """Return the settings fitted to a model, and the prompt that its folder asks for."""
        layers, found = encoder_config.layers, read_sentence_settings(folder, encoder_config.max_positions)
        if config.transfer.frozen(layers) >= layers:
            raise ConfigError(f"transfer.freeze: {folder} has {layers} blocks, of which one must learn; freeze fewer")
        return config.fitted(encoder_config, positions=found.max_length), found.prompts.text

    @cached_property
    def pooling(self) -> SentenceSettings:
        """How vectors are made of hidden states: as the settings say, else as the folder does, else of unit length."""
        embed, found = self.config.embed, read_sentence_settings(self.folder, self.encoder_config.max_positions)
        usual = found.normalize if is_sentence_folder(self.folder) else True
        normalize = usual if embed.normalize is None else embed.normalize
        return replace(found, pooling=embed.pooling or found.pooling, normalize=normalize)

    def check(self) -> None:
        """Raise ConfigError where vectors have fewer units than are asked for, as well."""
        super().check()
        units, width = self.task.dimensions, self.encoder_config.hidden_size
        if units and not 0 < min(units) <= max(units) < width:
            raise ConfigError(f"embed.dimensions: vectors of {self.folder} have {width} units; give numbers below that")

    def ready(self) -> Self:
        """Return the setup with hard negatives in its training examples, where they are to be mined."""
        train, embed = self.splits["train"], self.config.embed
        if not embed.hard_negatives:
            return self
        model = self.new_model(self.config.seed)
        vectors = row_vectors(model, train.rows.texts, device=self.device, cast=self.cast)
        members = train.examples.members
        places, negatives = mine_negatives(vectors, members, most=embed.hard_negatives, margin=embed.margin)
        alone = len(members) - len(np.unique(places))
        note(
            f"{len(places):,} hard negatives mined for {len(members) - alone:,} pairs"
            + (f"; {alone:,} pairs without one are left out (a smaller --embed.margin finds more)" if alone else "")
        )
        if not len(places):
            raise ConfigError(f"embed.hard_negatives: {train.examples.path} has none; give more pairs, or leave it out")
        triples = np.column_stack([members[places], negatives])
        mined = EncodedExamples(replace(train.examples, members=triples), replace(train.rows, members=triples))
        return replace(self, splits={**self.splits, "train": mined})

    def callbacks(self, model: SentenceEncoder) -> list[Callback]:
        """Return what warns of a loss that is too easy, of pairs."""
        return [TooEasyCallback(self.examples_per_step)] if self.task.kind == "pairs" else []

    def new_model(self, seed: int) -> SentenceEncoder:
        """Return the encoder of the folder, frozen as the settings say; nothing of it is drawn from `seed`."""
        encoder, _ = read_sentence_folder(self.folder)
        how, transfer = self.pooling, self.config.transfer
        model = SentenceEncoder(encoder, pooling=how.pooling, normalize=how.normalize, skip=how.skip)
        freeze(model, transfer.frozen(self.encoder_config.layers))
        dropout = transfer.dropout
        has_dropout = any(isinstance(module, Dropout) and module.rate for module in encoder.modules())
        if dropout is None and self.task.kind == "texts" and not has_dropout:
            note(f"{self.folder} has no dropout, which makes two views of a text differ: {SIMCSE_DROPOUT} is used")
            dropout = SIMCSE_DROPOUT
        set_dropout(encoder, dropout)
        return model.to(self.device)

    def rate_factors(self, model: SentenceEncoder) -> dict[str, float] | None:
        """Return factors that fall from the last block down."""
        return learning_rates(model, self.config.transfer.layer_decay, top=self.encoder_config.layers)

    def row_flops(self, rows: int, length: int) -> int:
        """Return the floating-point operations of training on so many texts of so many tokens."""
        return training_flops(self.encoder_config, rows=rows, length=length, masked=length, outputs=0)

    def extra_facts(self) -> dict[str, Any]:
        """Return what result.json holds for sentence vectors alone."""
        found = {"objective": self.task.kind, "pooling": self.pooling.pooling, "normalize": self.pooling.normalize}
        return {**found, "dimensions": list(self.task.dimensions)} if self.task.dimensions else found

    def evaluate(self, model: SentenceEncoder, split: str, *, training: bool = False) -> EvalResult:
        """Return the figures of a model on a split."""
        chosen, cast = self.splits[split], self.cast if training else nullcontext
        vectors = row_vectors(model, chosen.rows.texts, device=self.device, cast=cast)
        result = evaluate_vectors(vectors, chosen.examples, mistakes=0 if training else self.config.watch.mistakes)
        metric, figures = self.task.metric, dict(result.figures)
        for units in () if training else self.task.dimensions:
            figures[f"{metric}_{units}_units"] = evaluate_vectors(vectors[:, :units], chosen.examples).figures[metric]
        return replace(result, figures=figures)

    def save(self, model: SentenceEncoder, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write a sentence-transformers folder."""
        card = sentence_card(name, figures, pooling=model.pooling, normalize=model.normalize)
        length, tokenizer = self.config.batches.max_length, self.tokenizer.path.parent
        save_sentence_model(model, tokenizer, out, max_length=length, prompts=self.pooling.prompts, card=card)
