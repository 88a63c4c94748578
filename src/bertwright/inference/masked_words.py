"""Turns texts with [MASK] in them into the words a model would put there, whatever runs the model; without torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bertwright.errors import UsageError
from bertwright.inference.batching import BatchPolicy, Predictor, in_batches
from bertwright.inference.text_rows import MASK, frame, labelled
from bertwright.tokenizer.load import Tokenizer

Guess = tuple[str, float]
"""A token and its probability."""


def guess_words(
    ask: Predictor[np.ndarray],
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    top_k: int,
    positions: int,
    pace: BatchPolicy,
) -> list[list[list[Guess]]]:
    """Return for each text, and each [MASK] in it, the `top_k` likeliest tokens there, likeliest first.

    `ask` gives logits [B, M, V] at the positions asked about. Probabilities are over the whole vocabulary; each [MASK]
    is filled on its own. Raises UsageError where a text has no [MASK], InputError where one is past `positions`.
    """
    missing = next((text for text in texts if MASK not in text), None)
    if missing is not None:
        raise UsageError(f'"{missing}" has no {MASK}; write {MASK} in place of the word to guess')
    framed = [frame(place, [text], tokenizer=tokenizer, positions=positions) for place, text in enumerate(texts)]
    rows = labelled(framed, tokenizer=tokenizer, mask=True)
    best_of = _likeliest(ask, min(top_k, tokenizer.vocab_size), words=tokenizer.vocab_size)
    answers: list[list[list[Guess]]] = [[] for _ in texts]
    for places, (words, shares) in in_batches(best_of, rows, pace=pace):
        for row, place in enumerate(places.tolist()):
            for slot in range(int(rows.num_targets[place])):
                found = zip(words[row, slot].tolist(), shares[row, slot].tolist(), strict=True)
                answers[place].append([(_readable(tokenizer, word), share) for word, share in found])
    return answers


def _likeliest(ask: Predictor[np.ndarray], count: int, *, words: int) -> Predictor[tuple[np.ndarray, np.ndarray]]:
    """Return the ask that answers with ids and probabilities [B, M, count], likeliest first, of the first `words`."""

    def best(arrays: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        logits = ask(arrays)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares = (powers / powers.sum(axis=-1, keepdims=True))[..., :words]  # rows past it are padding, not tokens
        found = np.argpartition(shares, words - count, axis=-1)[..., words - count :]
        order = np.argsort(-np.take_along_axis(shares, found, -1), axis=-1, kind="stable")
        found = np.take_along_axis(found, order, -1)
        return found, np.take_along_axis(shares, found, -1)

    return best


def _readable(tokenizer: Tokenizer, index: int) -> str:
    """Return a token as a person reads it: WordPiece's ## kept, byte-level tokens decoded."""
    token = tokenizer.tokens[index]
    return token if token.startswith("##") else tokenizer.decode([index]).strip() or token
