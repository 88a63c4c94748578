"""Turns settings, a MODEL folder and parallel text into the parts of a translation run: pairs, model, step, batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.data.prefetch import Prefetcher
from bertwright.device import matmul_rate, pick_device, resolve_precision
from bertwright.errors import ConfigError
from bertwright.hub.cards.translation_model import translation_card
from bertwright.hub.encoder_decoder_folder import save_encoder_decoder
from bertwright.hub.encoder_folder import read_model
from bertwright.inference.translating import translate_rows, translation_loss
from bertwright.log import note
from bertwright.model.build import build_encoder
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
from bertwright.model.layers.dropout import Dropout
from bertwright.rng import key_of
from bertwright.tasks.eval_result import EvalResult
from bertwright.tasks.examples import split_dev
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.metrics import score_texts
from bertwright.tasks.translation.reader import SidesConfig, parallel_files, source_alone
from bertwright.tasks.translation.task import Translate
from bertwright.tokenizer.load import load_tokenizer
from bertwright.train.loop import PhaseSource
from bertwright.train.schedule import Phase, ScheduleConfig
from bertwright.train.step import TrainStep, forward_loss_of
from bertwright.train.task_setup.run_of_task import Split, Tuning
from bertwright.train.task_setup.translate_config import TranslateConfig
from bertwright.types import PairBatch, TokenRows

LOGITS = 16
"""Bytes of a logit of the vocabulary that are kept until the backward pass: four tensors of float32."""
LOW_CEILING = 95.0
"""BLEU of the references through the vocabulary and back, below which a warning is due."""


@dataclass(frozen=True)
class TranslateParts(Tuning):
    """The parts of a run for a decoder beside the encoder."""

    config: TranslateConfig
    task: Translate
    rules: SearchRules
    """How finished models write."""

    def files_read(self, files: Mapping[str, Path]) -> Mapping[str, Path]:
        """Return both sides of every split."""
        found: dict[str, Path] = {}
        for name, given in files.items():
            if name in self.unlabelled:
                found[name] = given
                continue
            sides = parallel_files(given, self.task.sides)
            found |= {name: sides[0]} if len(sides) == 1 else {f"{name}.source": sides[0], f"{name}.target": sides[1]}
        return found

    def facts(self) -> dict[str, Any]:
        """Return what result.json says of a translation model alone."""
        writing = self.config.translate
        return {
            "start": writing.start,
            "smoothing": writing.smoothing,
            "beams": self.rules.beams,
            "length_penalty": self.rules.length_penalty,
            "longest": self.rules.max_length,
            "signatures": score_texts(["a"], ["a"], lowercase=self.task.lowercase).signatures,
        }

    def fresh_model(self, seed: int) -> EncoderDecoder:
        """Return encoder and decoder, from pre-trained weights as far as the settings say, attention between new."""
        torch.manual_seed(key_of("decoder", seed))
        config, transfer = self.config.translate, self.config.transfer
        encoder = build_encoder(self.shape) if config.start == "neither" else read_model(self.folder)[0]
        decoder = Decoder(decoder_config(self.shape, layers=config.decoder_layers))
        if config.start == "both":
            start_from(decoder, encoder)
        model = EncoderDecoder(encoder, decoder)
        freeze_encoder(model, transfer.frozen(self.shape.layers))
        if transfer.dropout is not None:
            for module in model.modules():
                if isinstance(module, Dropout):
                    module.share = transfer.dropout
        return model.to(self.device)

    def step(self, model: EncoderDecoder, seed: int) -> TrainStep:
        """Return the training step: one rate for all weights."""
        step = TrainStep(
            model=model,
            objective=self.task,
            optimizers=self.optimizers(model),
            forward_loss=forward_loss_of(model, self.task, self.cast),
            average=None,
            clip_norm=self.config.optimizer.clip_norm,
            seed=seed,
            device=self.device,
        )
        rows, decoder = self.splits["train"].rows, model.decoder.config

        def row_bytes(length: int) -> int:
            return kept_bytes(self.shape, length) + kept_bytes(decoder, length) + LOGITS * length * decoder.vocab_size

        self.split_batches(step, row_bytes, np.maximum(rows.source_lengths, rows.target_lengths))
        return step

    def batches(self, seed: int) -> tuple[PhaseSource, ScheduleConfig]:
        """Return batches of pairs of like length, and the schedule that is as many steps as they make."""
        batches, rows = self.config.batches, self.splits["train"].rows
        source = LabelledSource(rows, batch_rows=batches.rows, tokens=batches.tokens, seed=seed)
        shape, decoder = self.shape, decoder_config(self.shape, layers=self.config.translate.decoder_layers)

        def flops(batch: TokenRows, _: float) -> int:
            assert isinstance(batch, PairBatch)
            count, length = batch.decoder_ids.shape
            asked = int((batch.labels >= 0).sum())
            read = batch.input_ids.shape[1]
            return translation_flops(shape, decoder, rows=count, source=read, target=length, asked=asked)

        span = self.config.schedule
        schedule = ScheduleConfig(
            minutes=span.minutes,
            steps=None if span.minutes else source.steps(span.epochs),
            warmup=span.warmup,
            phases=(Phase(length=max(8, int(rows.source_lengths.max())), rows=batches.rows, share=1.0),),
        )
        draw = Prefetcher(lambda t: source.draw(t).pinned()) if self.device.type == "cuda" else source.draw
        return PhaseSource(draw=draw, rows_per_epoch=len(rows), flops=flops), schedule

    def peak_flops(self, *, stretches: int = 6) -> float:
        """Return the measured rate of this machine on the largest block product of a typical step."""
        rows = self.splits["train"].rows
        tokens = round(float(np.mean(rows.source_lengths)) * min(self.config.batches.rows, len(rows)))
        width, widest = self.shape.hidden_size, self.shape.widest_product
        return matmul_rate(tokens, width, widest, precision=self.precision, device=self.device, rounds=stretches)

    def judge_along(self, model: EncoderDecoder) -> dict[str, float]:
        """Return the figures on dev of what the model writes greedily, which is cheap and ranks checkpoints alike."""
        dev, greedy = self.splits["dev"], replace(self.rules, beams=1)
        written = translate_rows(model, dev.rows, greedy, device=self.device, cast=self.cast)
        loss = translation_loss(model, dev.rows, device=self.device, cast=self.cast)
        return self.task.judge(self.task.texts(written), dev.examples, loss=loss).figures

    def judge(self, model: EncoderDecoder, split: str) -> EvalResult:
        """Judge what a finished model writes by beam search in float32, with its worst translations."""
        chosen = self.splits[split]
        written = translate_rows(model, chosen.rows, self.rules, device=self.device)
        loss = translation_loss(model, chosen.rows, device=self.device)
        said = self.task.texts(written)
        return self.task.judge(said, chosen.examples, loss=loss, mistakes=self.config.watch.mistakes)

    def save(self, model: EncoderDecoder, out: Path, *, name: str, figures: Mapping[str, Any]) -> None:
        """Write the folder of an EncoderDecoderModel."""
        card = translation_card(name, figures)
        save_encoder_decoder(model, self.tokenizer.path.parent, out, rules=self.rules, card=card)


def build_translation(config: TranslateConfig, folder: Path, files: dict[str, Path]) -> TranslateParts:
    """Read and encode the pairs of each split; raises InputError with the reason where a file or model is unfit."""
    tokenizer, shape = load_tokenizer(folder), read_model(folder)[0].config
    if config.transfer.frozen(shape.layers) > shape.layers:
        raise ConfigError(
            f"transfer.freeze: {folder} has {shape.layers} blocks, not {config.transfer.freeze} to freeze"
        )
    positions = min(shape.max_positions, decoder_config(shape).max_positions)
    config = config.fitted(width=shape.hidden_size, positions=positions)
    writing = config.translate
    sides = SidesConfig(source=writing.source, target=writing.target, encoding=writing.encoding)
    task = Translate(tokenizer, sides, smoothing=writing.smoothing)
    encoder = TextEncoder(tokenizer, max_length=config.batches.max_length)
    unlabelled = {"test": source} if "test" in files and (source := source_alone(files["test"], sides)) else {}
    examples = {name: task.read(path) for name, path in files.items() if name not in unlabelled}
    fraction = config.dev_fraction_for(files)
    if fraction is not None:
        examples["train"], examples["dev"] = split_dev(examples["train"], fraction=fraction)
    splits = {name: Split(part, task.encode(part, encoder)) for name, part in examples.items()}
    _tell_vocabulary(task, splits["dev"])
    longest = writing.longest or round(1.5 * int(splits["train"].rows.target_lengths.max()))
    device = pick_device()
    return TranslateParts(
        config=config,
        folder=folder,
        shape=shape,
        tokenizer=tokenizer,
        task=task,
        splits=splits,
        device=device,
        precision=resolve_precision(config.precision, device),
        unlabelled=unlabelled,
        rules=task.rules(
            max_length=min(longest, positions), beams=writing.beams, length_penalty=writing.length_penalty
        ),
    )


def _tell_vocabulary(task: Translate, dev: Split) -> None:
    """Say what the vocabulary does to the target language."""
    ceiling = task.ceiling(dev.examples, dev.rows)
    words = sum(len(text.split()) for text in dev.examples.second)
    pieces = float(dev.rows.target_lengths.sum() - 2 * len(dev.rows)) / words
    fault = "" if ceiling >= LOW_CEILING else ": it lacks letters or loses spaces, and no training can fix that"
    note(
        f"the vocabulary makes {pieces:.2f} tokens of a target word; the references of dev, encoded and decoded, score "
        f"BLEU {ceiling:.1f}{fault}"
    )
