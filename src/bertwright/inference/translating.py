"""Turns paired rows into the texts an encoder-decoder writes about them, and into its loss on the true ones."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from bertwright.data.labelled.paired import PairedRows
from bertwright.data.labelled.rows_of_labels import in_order_of_length
from bertwright.model.encoder_decoder import EncoderDecoder
from bertwright.model.generate import SearchRules, write_texts

ROWS = 64
"""Source texts of a batch at most, times beams."""
TOKENS = 8192
"""Tokens of a batch at most, padding included."""

Cast = Callable[[], AbstractContextManager[Any]]


@torch.inference_mode()
def translate_rows(
    model: EncoderDecoder, rows: PairedRows, rules: SearchRules, *, device: torch.device, cast: Cast = nullcontext
) -> list[list[int]]:
    """Return the token ids written about each source text, in the order of the rows, special tokens left out.

    Texts of like length are read together; their targets are not looked at. The model stays in the mode it was in.
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
    """Return the mean negative log-likelihood of the true targets, in nats a token, the end of each text included."""
    training = model.training
    model.eval()
    total, count = 0.0, 0
    for _, batch in in_order_of_length(rows, batch_rows=ROWS, tokens=TOKENS):
        here = batch.to(device)
        with cast():
            logits = model(here)
        asked = here.labels[here.labels >= 0]
        total += float(functional.cross_entropy(logits.float(), asked, reduction="sum"))
        count += len(asked)
    model.train(training)
    return total / count
