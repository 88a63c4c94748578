"""Turns pairs of texts into the probability that the second follows the first, by the next-sentence head."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bertwright.errors import ModelError
from bertwright.evaluate.text_rows import batches_of, frame
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer


@torch.inference_mode()
def next_sentence(model: Encoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return for each pair the probability that the second text continues the first.

    The model must be in evaluation mode. Raises InputError where a pair is longer than the model reads, and ModelError
    where the model has no next-sentence head.

    >>> next_sentence(model, tokenizer, [("He sat down.", "Then he ate.")])
    [0.93]
    """
    positions = model.config.max_positions
    rows = [frame(place, pair, tokenizer=tokenizer, positions=positions) for place, pair in enumerate(pairs)]
    answers = [0.0] * len(rows)
    for batch in batches_of(rows, model, pad=tokenizer.special.pad):
        hidden = model.encode(batch.input_ids, batch.token_type_ids, batch.attention_mask)
        logits = model.nsp_logits(hidden)
        if logits is None:
            raise ModelError("this architecture has no next-sentence head; give a BERT pre-trained with one")
        shares = torch.softmax(logits.float(), dim=-1)[:, 0]
        for place, share in zip(batch.places, shares.tolist(), strict=True):
            answers[place] = share
    return answers
