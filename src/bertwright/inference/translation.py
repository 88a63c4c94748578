"""Turns source texts into the texts an encoder-decoder writes about them, and into its loss on their references."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional

from bertwright.corpus.readers.lines import STDIN
from bertwright.data.labelled.paired import PairedRows
from bertwright.data.labelled.rows_of_labels import in_order_of_length
from bertwright.device import pick_device
from bertwright.errors import UsageError
from bertwright.hub.encoder_decoder_folder import TranslationFolder
from bertwright.inference.base import Predictions, Predictor
from bertwright.inference.questions import Located
from bertwright.inference.scoring import Cast
from bertwright.model.encoder_decoder import EncoderDecoder
from bertwright.model.generate import SearchRules, write_texts
from bertwright.tasks.text_encoder import TextEncoder
from bertwright.tasks.translation.reader import Parallel, SidesConfig
from bertwright.tasks.translation.task import Translate

ROWS = 64
"""Source texts of a batch at most, times beams."""
TOKENS = 8192
"""Tokens of a batch at most, padding included."""


class TranslationPredictor(Predictor):
    """Writes each text in another language, in float32, by the search that the folder names."""

    head_type, pairs, chunk = "translation", False, 1024

    def __init__(self, opened: TranslationFolder) -> None:
        """Take a model and its tokenizer, and move the model to the fastest device."""
        self.opened, self.device = opened, pick_device()
        self.model = opened.model.to(self.device)
        self.task = Translate(opened.tokenizer, SidesConfig())
        positions = min(opened.model.encoder.config.max_positions, opened.model.decoder.config.max_positions)
        self.encoder = TextEncoder(opened.tokenizer, max_length=positions)

    def questions(
        self, texts: Sequence[str], *, pair: bool = False, located: Iterable[Located] = ()
    ) -> Iterator[tuple[str, ...]]:
        """Yield each text alone; raises UsageError for a `pair`."""
        if pair:
            raise UsageError("a model that translates takes single texts; leave --pair out")
        yield from ((text,) for text in texts)
        yield from (parts for _, parts in located)

    def predict(self, questions: Sequence[tuple[str, ...]]) -> Predictions:
        """Return {"text", "translation"} for each text; that of an empty one is empty."""
        texts = [text.strip() for (text,) in questions]
        sources = [text for text in texts if text]
        pairs = Parallel(STDIN, sources, [""] * len(sources))
        written = iter(self.write(self.task.encode(pairs, self.encoder).rows) if sources else ())
        return [{"text": text, "translation": next(written) if text else ""} for text in texts]

    def write(self, rows: PairedRows) -> list[str]:
        """Return what the model writes about each source text."""
        return self.task.texts(translate_rows(self.model, rows, self.opened.rules, device=self.device))


@torch.inference_mode()
def translate_rows(
    model: EncoderDecoder, rows: PairedRows, rules: SearchRules, *, device: torch.device, cast: Cast = nullcontext
) -> list[list[int]]:
    """Return the token ids written about each source text, in the order of the rows, special tokens left out.

    Texts of similar length are read together; their targets are not looked at. The model stays in the mode it was in.
    """
    training = model.training
    model.eval()
    only_sources = replace(rows, target_lengths=np.zeros_like(rows.target_lengths) + 1)
    written: list[list[int]] = [[] for _ in range(len(rows))]
    for places, batch in in_order_of_length(
        only_sources, batch_rows=max(1, 2 * ROWS // (1 + rules.beams)), tokens=TOKENS
    ):
        here = batch.to(device)
        with cast():
            memory = model.read(here.input_ids, here.token_type_ids, here.attention_mask)
            texts = write_texts(model.decoder, memory, rules)
        for place, ids in zip(places.tolist(), texts, strict=True):
            written[place] = ids
    model.train(training)
    return written


@torch.inference_mode()
def translation_loss(
    model: EncoderDecoder, rows: PairedRows, *, device: torch.device, cast: Cast = nullcontext
) -> float:
    """Return the mean negative log-likelihood of the references, in nats a token, the end of each text included."""
    training = model.training
    model.eval()
    total, count = 0.0, 0
    for _, batch in in_order_of_length(rows, batch_rows=ROWS, tokens=TOKENS):
        here = batch.to(device)
        with cast():
            logits = model(here)
        labels = here.labels[here.labels >= 0]
        total += float(functional.cross_entropy(logits.float(), labels, reduction="sum"))
        count += len(labels)
    model.train(training)
    return total / count
