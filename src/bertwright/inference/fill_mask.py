"""Turns texts with [MASK] in them into the words a model would put there, with their probabilities.

torch is imported where a model of torch is run, so that an exported one is run without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertwright.errors import UsageError
from bertwright.inference.batching import BatchPolicy, Forward, in_batches
from bertwright.inference.text_rows import MASK, text_rows
from bertwright.tokenizer.load import Tokenizer
from bertwright.types import listed

if TYPE_CHECKING:
    from bertwright.model.encoder import Encoder

POLICY = BatchPolicy(rows=32, tokens=2048)
"""Logits of a vocabulary are many: so few rows at a time."""
Guess = tuple[str, float]
"""A token and its probability."""


def fill_mask(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5) -> list[list[Guess]]:
    """Return for each text, which has one [MASK], the `top_k` likeliest tokens there, likeliest first.

    Raises UsageError where a text has no [MASK] or several, and InputError where it is longer than the model reads.

    >>> fill_mask(model, tokenizer, ["Return the [MASK] of the list."], top_k=1)
    [[('length', 0.31)]]
    """
    texts = listed(texts)
    several = next((text for text in texts if text.count(MASK) > 1), None)
    if several is not None:
        raise UsageError(f'"{several}" has more than one {MASK}; ask for one at a time, or use fill_masks')
    return [masks[0] for masks in fill_masks(model, tokenizer, texts, top_k=top_k)]


def fill_masks(
    model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5
) -> list[list[list[Guess]]]:
    """Return for each text, and each [MASK] in it, the `top_k` likeliest tokens there, likeliest first.

    The model must be in evaluation mode. Probabilities are over the whole vocabulary; each [MASK] is filled on its own.
    """
    from bertwright.inference.scoring import encoder_forward

    forward = encoder_forward(model, "masked-token")
    return guess_words(
        forward, tokenizer, listed(texts), top_k=top_k, max_length=model.config.max_positions, policy=POLICY
    )


def guess_words(
    forward: Forward[np.ndarray],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    top_k: int,
    max_length: int,
    policy: BatchPolicy,
) -> list[list[list[Guess]]]:
    """Return what `fill_masks` does; `forward` gives logits [B, M, V] at the mask tokens, whatever runs the model.

    Raises UsageError where a text has no [MASK], and InputError where one is longer than `max_length` tokens.
    """
    missing = next((text for text in texts if MASK not in text), None)
    if missing is not None:
        raise UsageError(f'"{missing}" has no {MASK}; write {MASK} in place of the word to guess')
    rows = text_rows([(text,) for text in texts], tokenizer, max_length=max_length, masked=True)
    likeliest = _likeliest(forward, min(top_k, tokenizer.vocab_size), words=tokenizer.vocab_size)
    guesses: list[list[list[Guess]]] = [[] for _ in texts]
    for places, (words, probabilities) in in_batches(likeliest, rows, policy=policy):
        for row, place in enumerate(places.tolist()):
            for slot in range(int(rows.num_targets[place])):
                found = zip(words[row, slot].tolist(), probabilities[row, slot].tolist(), strict=True)
                guesses[place].append([(_readable(tokenizer, word), probability) for word, probability in found])
    return guesses


def _likeliest(forward: Forward[np.ndarray], count: int, *, words: int) -> Forward[tuple[np.ndarray, np.ndarray]]:
    """Return what gives ids and probabilities [B, M, count], likeliest first, of the first `words` tokens there are."""

    def best(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        logits = forward(arrays)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = (powers / powers.sum(axis=-1, keepdims=True))[..., :words]  # rows past it are padding
        found = np.argpartition(probabilities, words - count, axis=-1)[..., words - count :]
        order = np.argsort(-np.take_along_axis(probabilities, found, -1), axis=-1, kind="stable")
        found = np.take_along_axis(found, order, -1)
        return found, np.take_along_axis(probabilities, found, -1)

    return best


def _readable(tokenizer: Tokenizer, index: int) -> str:
    """Return a token as a person reads it: WordPiece's ## kept, byte-level tokens decoded."""
    token = tokenizer.tokens[index]
    return token if token.startswith("##") else tokenizer.decode([index]).strip() or token
