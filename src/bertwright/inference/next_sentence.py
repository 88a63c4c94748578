"""Turns pairs of texts into the probability that the second follows the first, by the next-sentence head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bertwright.errors import ModelError
from bertwright.inference.batching import BatchPolicy, Predictor, logits_of
from bertwright.inference.text_rows import frame, labelled
from bertwright.tasks.metrics import softmax
from bertwright.tokenizer.load import Tokenizer

if TYPE_CHECKING:
    from bertwright.model.encoder import Encoder


def next_sentence(model: Encoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return for each pair the probability that the second text continues the first.

    The model must be in evaluation mode. Raises InputError where a pair is longer than the model reads, and ModelError
    where the model has no next-sentence head.

    >>> next_sentence(model, tokenizer, [("He sat down.", "Then he ate.")])  # needs a model  # doctest: +SKIP
    [0.93]
    """
    return shares_of_pairs(
        _ask_pairs(model), tokenizer, pairs, positions=model.config.max_positions, pace=BatchPolicy()
    )


def shares_of_pairs(
    ask: Predictor[np.ndarray],
    tokenizer: Tokenizer,
    pairs: Sequence[tuple[str, str]],
    *,
    positions: int,
    pace: BatchPolicy,
) -> list[float]:
    """Return for each pair the probability that the second continues the first; `ask` gives logits [B, 1, 2]."""
    framed = [frame(place, pair, tokenizer=tokenizer, positions=positions) for place, pair in enumerate(pairs)]
    if not framed:
        return []
    rows = labelled(framed, tokenizer=tokenizer, mask=False)
    shares: list[float] = softmax(logits_of(ask, rows, pace=pace))[:, 0].tolist()
    return shares


def _ask_pairs(model: Encoder) -> Predictor[np.ndarray]:
    import torch  # here: an exported model is asked without it

    device = next(model.parameters()).device

    def ask(arrays: dict[str, np.ndarray]) -> np.ndarray:
        names = ("input_ids", "token_type_ids", "attention_mask", "asked")
        with torch.inference_mode():
            logits = model.nsp_logits(model.encode(*(torch.from_numpy(arrays[name]).to(device) for name in names)))
        if logits is None:
            raise ModelError("the model has no next-sentence head; give one pre-trained with sentence pairs")
        pairs: np.ndarray = logits.float().cpu().numpy()[:, None]
        return pairs

    return ask
