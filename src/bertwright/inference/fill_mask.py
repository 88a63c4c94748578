"""Turns texts with [MASK] in them into the words the model would put there, with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from bertwright.errors import UsageError
from bertwright.inference.batching import BatchPolicy, Predictor
from bertwright.inference.masked_words import Guess, guess_words
from bertwright.inference.text_rows import MASK
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import listed

PACE = BatchPolicy(rows=32, tokens=2048)
"""Logits of a vocabulary are many: so few rows at a time."""


def fill_mask(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5) -> list[list[Guess]]:
    """Return for each text, which has one [MASK], the `top_k` likeliest tokens there, likeliest first.

    Raises UsageError where a text has no [MASK] or several, and InputError where it is longer than the model reads.

    >>> fill_mask(model, tokenizer, ["Return the [MASK] of the list."], top_k=1)  # needs a model  # doctest: +SKIP
    [[('length', 0.31)]]
    """
    texts = listed(texts)
    several = next((text for text in texts if text.count(MASK) > 1), None)
    if several is not None:
        raise UsageError(f'"{several}" has more than one {MASK}; ask for one at a time, or use fill_masks')
    return [places[0] for places in fill_masks(model, tokenizer, texts, top_k=top_k)]


def fill_masks(
    model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5
) -> list[list[list[Guess]]]:
    """Return for each text, and each [MASK] in it, the `top_k` likeliest tokens there, likeliest first.

    The model must be in evaluation mode. Probabilities are over the whole vocabulary; each [MASK] is filled on its own.
    """
    texts, ask = listed(texts), ask_words(model)
    return guess_words(ask, tokenizer, texts, top_k=top_k, positions=model.config.max_positions, pace=PACE)


def ask_words(model: Encoder) -> Predictor[np.ndarray]:
    """Return the function that gives a model's logits [B, M, V] of the vocabulary at the positions asked about."""
    device = next(model.parameters()).device

    def ask(arrays: dict[str, np.ndarray]) -> np.ndarray:
        names = ("input_ids", "token_type_ids", "attention_mask", "asked")
        with torch.inference_mode():
            hidden = model.encode(*(torch.from_numpy(arrays[name]).to(device) for name in names))
            logits: np.ndarray = model.mlm_logits(hidden).float().cpu().numpy()
        return logits

    return ask
