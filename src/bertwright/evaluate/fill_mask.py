"""Turns texts with [MASK] in them into the words the model would put there, with their probabilities."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bertwright.errors import UsageError
from bertwright.evaluate.text_rows import MASK, TextBatch, batches_of, frame
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer

Guess = tuple[str, float]
"""A token and its probability."""


def fill_mask(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5) -> list[list[Guess]]:
    """Return for each text, which has one [MASK], the `top_k` likeliest tokens there, likeliest first.

    Raises UsageError where a text has no [MASK] or several, and InputError where it is longer than the model reads.

    >>> fill_mask(model, tokenizer, ["Return the [MASK] of the list."], top_k=1)
    [[('length', 0.31)]]
    """
    several = next((text for text in texts if text.count(MASK) > 1), None)
    if several is not None:
        raise UsageError(f'"{several}" has more than one {MASK}; ask for one at a time, or use fill_masks')
    return [places[0] for places in fill_masks(model, tokenizer, texts, top_k=top_k)]


@torch.inference_mode()
def fill_masks(
    model: Encoder, tokenizer: Tokenizer, texts: Sequence[str], *, top_k: int = 5
) -> list[list[list[Guess]]]:
    """Return for each text, and each [MASK] in it, the `top_k` likeliest tokens there, likeliest first.

    The model must be in evaluation mode. Probabilities are over the whole vocabulary; each [MASK] is filled on its own.
    """
    rows = []
    for place, text in enumerate(texts):
        if MASK not in text:
            raise UsageError(f'"{text}" has no {MASK}; write {MASK} in place of the word to guess')
        rows.append(frame(place, [text], tokenizer=tokenizer, positions=model.config.max_positions))
    answers: list[list[list[Guess]]] = [[] for _ in texts]
    for batch in batches_of(rows, model, pad=tokenizer.special.pad):
        for place, guesses in _guess(model, tokenizer, batch, top_k=top_k):
            answers[place].append(guesses)
    return answers


def _guess(model: Encoder, tokenizer: Tokenizer, batch: TextBatch, *, top_k: int) -> list[tuple[int, list[Guess]]]:
    hidden = model.encode(batch.input_ids, batch.token_type_ids, batch.attention_mask)
    rows, columns = torch.nonzero(batch.input_ids == tokenizer.special.mask, as_tuple=True)
    logits = model.mlm_logits(hidden[rows, columns])
    shares = torch.softmax(logits.float(), dim=-1)[:, : tokenizer.vocab_size]  # rows past it are padding, not tokens
    best = shares.topk(min(top_k, shares.shape[-1]))
    return [
        (batch.places[row], [(_readable(tokenizer, i), p) for i, p in zip(ids, chances, strict=True)])
        for row, ids, chances in zip(rows.tolist(), best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _readable(tokenizer: Tokenizer, index: int) -> str:
    """Return a token as a person reads it: WordPiece's ## kept, byte-level tokens decoded."""
    token = tokenizer.tokens[index]
    return token if token.startswith("##") else tokenizer.decode([index]).strip() or token
