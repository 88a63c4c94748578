"""Sets up training of a translation model: a decoder beside the encoder, pairs of texts on either side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch

from bertwright.errors import ConfigError
from bertwright.hub.cards.model_cards import translation_card
from bertwright.hub.encoder_decoder_folder import save_encoder_decoder
from bertwright.hub.encoder_folder import read_model
from bertwright.inference.translation import translate_rows, translation_loss
from bertwright.log import note
from bertwright.model.build import build_encoder
from bertwright.model.config import BertConfig, ModelConfig
from bertwright.model.decoder import Decoder
from bertwright.model.encoder import kept_bytes
from bertwright.model.encoder_decoder import (
    EncoderDecoder,
    decoder_config,
    freeze_encoder,
    start_from,
    translation_flops,
)
from bertwright.model.generate import SearchRules
from bertwright.rng import key_of
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.translation.metrics import score_texts
from bertwright.tasks.translation.reader import parallel_files
from bertwright.tasks.translation.task import Translate
from bertwright.train.task_setup.base import TaskSetup
from bertwright.train.task_setup.finetune_config import TranslateConfig
from bertwright.train.task_setup.transfer import set_dropout
from bertwright.types import PairBatch, TokenRows

LOGIT_BYTES = 16
"""Bytes of a logit of the vocabulary that are kept until the backward pass: four tensors of float32."""
LOW_CEILING = 95.0
"""BLEU of the references through the vocabulary and back, below which a warning is due."""


@dataclass(frozen=True)
class TranslationSetup(TaskSetup):
    """What seeds have in common that train a decoder beside the encoder."""

    can_compile: ClassVar[bool] = False
    config: TranslateConfig
    task: Translate

    @classmethod
    def fitted(cls, config: TranslateConfig, encoder_config: ModelConfig, folder: Path) -> tuple[TranslateConfig, str]:
        """Return the settings fitted to a model."""
        layers = encoder_config.layers
        if config.transfer.frozen(layers) > layers:
            raise ConfigError(f"transfer.freeze: {folder} has {layers} blocks, not {config.transfer.freeze} to freeze")
        positions = min(encoder_config.max_positions, decoder_config(encoder_config).max_positions)
        return config.fitted(encoder_config, positions=positions), ""

    def check(self) -> None:
        """Note what the vocabulary does to the target language."""
        super().check()
        dev = self.splits["dev"]
        ceiling = self.task.ceiling(dev.examples, dev.rows)
        words = sum(len(text.split()) for text in dev.examples.second)
        pieces = float(dev.rows.target_lengths.sum() - 2 * len(dev.rows)) / words
        fault = "" if ceiling >= LOW_CEILING else ": it lacks letters or loses spaces, and no training can fix that"
        note(
            f"the vocabulary makes {pieces:.2f} tokens of a target word; the references of dev, encoded and decoded, "
            f"score BLEU {ceiling:.1f}{fault}"
        )

    @cached_property
    def rules(self) -> SearchRules:
        """How finished models write."""
        writing = self.config.translate
        longest = writing.longest or round(1.5 * int(self.splits["train"].rows.target_lengths.max()))
        longest = min(longest, self.encoder_config.max_positions, self.decoder_config.max_positions)
        return self.task.rules(max_length=longest, beams=writing.beams, length_penalty=writing.length_penalty)

    @cached_property
    def decoder_config(self) -> BertConfig:
        """The settings of the decoder."""
        return decoder_config(self.encoder_config, layers=self.config.translate.decoder_layers)

    def new_model(self, seed: int) -> EncoderDecoder:
        """Return encoder and decoder, from pre-trained weights as far as the settings say, attention between new."""
        torch.manual_seed(key_of("decoder", seed))
        start, transfer = self.config.translate.start, self.config.transfer
        encoder = build_encoder(self.encoder_config) if start == "neither" else read_model(self.folder)[0]
        decoder = Decoder(self.decoder_config)
        if start == "both":
            start_from(decoder, encoder)
        model = EncoderDecoder(encoder, decoder)
        freeze_encoder(model, transfer.frozen(self.encoder_config.layers))
        set_dropout(model, transfer.dropout)
        return model.to(self.device)

    def row_bytes(self, model: EncoderDecoder) -> Callable[[int], int]:
        """Return what gives the memory that a pair of so many tokens on either side takes until the backward pass."""
        encoder, decoder = self.encoder_config, model.decoder.config

        def of_length(length: int) -> int:
            logits = LOGIT_BYTES * length * decoder.vocab_size
            return kept_bytes(encoder, length) + kept_bytes(decoder, length) + logits

        return of_length

    def row_flops(self, rows: int, length: int) -> int:
        """Return the floating-point operations of training on pairs of so many tokens on either side."""
        sizes = {"source": length, "target": length, "scored": rows * length}
        return translation_flops(self.encoder_config, self.decoder_config, rows=rows, **sizes)

    def batch_flops(self, batch: TokenRows) -> int:
        """Return the floating-point operations of training on a batch."""
        assert isinstance(batch, PairBatch)
        rows, target = batch.decoder_ids.shape
        sizes = {"source": batch.input_ids.shape[1], "target": target, "scored": int((batch.labels >= 0).sum())}
        return translation_flops(self.encoder_config, self.decoder_config, rows=rows, **sizes)

    def files_read(self, files: Mapping[str, Path]) -> Mapping[str, Path]:
        """Return both sides of every split."""
        found: dict[str, Path] = {}
        for name, given in files.items():
            sides = [given] if name in self.unlabelled else parallel_files(given, self.task.sides)
            found |= {name: sides[0]} if len(sides) == 1 else {f"{name}.source": sides[0], f"{name}.target": sides[1]}
        return found

    def extra_facts(self) -> dict[str, Any]:
        """Return what result.json holds for a translation model alone."""
        return {
            "start": self.config.translate.start,
            "smoothing": self.config.translate.smoothing,
            "beams": self.rules.beams,
            "length_penalty": self.rules.length_penalty,
            "longest": self.rules.max_length,
            "signatures": score_texts(["a"], ["a"], lowercase=self.task.lowercase).signatures,
        }

    def evaluate(self, model: EncoderDecoder, split: str, *, training: bool = False) -> EvalResult:
        """Return the figures of what a model writes by beam search.

        While `training` it writes greedily, which is cheap and ranks checkpoints alike.
        """
        chosen, cast = self.splits[split], self.cast if training else nullcontext
        rules = replace(self.rules, beams=1) if training else self.rules
        written = translate_rows(model, chosen.rows, rules, device=self.device, cast=cast)
        loss = translation_loss(model, chosen.rows, device=self.device, cast=cast)
        mistakes = None if training else self.config.watch.mistakes
        return self.task.evaluate(self.task.texts(written), chosen.examples, loss=loss, mistakes=mistakes)

    def save(self, model: EncoderDecoder, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the folder of an EncoderDecoderModel."""
        card = translation_card(name, figures)
        save_encoder_decoder(model, self.tokenizer.path.parent, out, rules=self.rules, card=card)
