"""Turns pairs of texts into the probability that the second follows the first, by the next-sentence head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertwright.inference.batching import BatchPolicy, Forward, logits_of
from bertwright.inference.text_rows import text_rows
from bertwright.tasks.metrics import softmax
from bertwright.tokenizer.load import Tokenizer

if TYPE_CHECKING:
    from bertwright.model.encoder import Encoder

POLICY = BatchPolicy()


def next_sentence(model: Encoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return for each pair the probability that the second text continues the first.

    The model must be in evaluation mode. Raises InputError where a pair is longer than the model reads, and ModelError
    where the model has no next-sentence head.

    >>> next_sentence(model, tokenizer, [("He sat down.", "Then he ate.")])
    [0.93]
    """
    from bertwright.inference.scoring import encoder_forward  # here: an exported model is run without torch

    forward = encoder_forward(model, "next-sentence")
    return probabilities_of_pairs(forward, tokenizer, pairs, max_length=model.config.max_positions, policy=POLICY)


def probabilities_of_pairs(
    forward: Forward[np.ndarray],
    tokenizer: Tokenizer,
    pairs: Sequence[Sequence[str]],
    *,
    max_length: int,
    policy: BatchPolicy,
) -> list[float]:
    """Return what `next_sentence` does; `forward` gives logits [B, 1, 2], whatever runs the model."""
    if not pairs:
        return []
    rows = text_rows(pairs, tokenizer, max_length=max_length, masked=False)
    probabilities: list[float] = softmax(logits_of(forward, rows, policy=policy))[:, 0].tolist()
    return probabilities
