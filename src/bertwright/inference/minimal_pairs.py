"""Turns pairs of sentences that differ in one point of grammar into how often a model finds the right one likelier.

A sentence is as likely as its words are, each guessed from all the others: the pseudo-log-likelihood of Salazar et al.
(2020), "Masked Language Model Scoring", by which BLiMP (Warstadt et al., 2020) is scored for masked language models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from bertwright.errors import InputError
from bertwright.model.encoder import Encoder
from bertwright.tokenizer.load import Tokenizer

TOKENS = 16_384
"""Tokens a batch: rows of sentences of one length, each with another token masked."""


@torch.inference_mode()
def pseudo_log_likelihoods(model: Encoder, tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
    """Return for each of N texts the sum of the log-probabilities (nats) of its tokens, each masked in turn, [N].

    The model must be in evaluation mode. A text is encoded as [CLS] text [SEP]; texts of a length share batches, so
    that nothing is padded. Raises InputError where a text is longer than the model reads or has no token.
    """
    encoded = [tokenizer.encode(text) for text in texts]
    for text, ids in zip(texts, encoded, strict=True):
        if not 0 < len(ids) <= model.config.max_positions - 2:
            raise InputError(
                f'"{text[:40]}" has {len(ids)} tokens; the model reads 1 to {model.config.max_positions - 2}'
            )
    device = next(model.parameters()).device
    sums = np.zeros(len(texts))
    for places, framed in _batches(encoded, tokenizer):
        count, length = framed.shape
        inner = length - 2
        rows = framed.repeat_interleave(inner, 0)
        masked = torch.arange(1, inner + 1).repeat(count)
        every = torch.arange(len(rows))
        truth = rows[every, masked]
        rows[every, masked] = tokenizer.special.mask
        hidden = model.encode(*(part.to(device) for part in (rows, rows * 0, rows >= 0, masked[:, None])))
        logits = model.mlm_logits(hidden[:, 0]).float()
        chances = torch.log_softmax(logits, -1).gather(1, truth.to(device)[:, None])
        sums[places] = chances.view(count, inner).sum(1).cpu().numpy()
    return sums


def _batches(encoded: list[list[int]], tokenizer: Tokenizer) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    """Yield (places [B], ids [B, S]) of sentences of one length, few enough for a batch once each is masked."""
    lengths = np.array([len(ids) for ids in encoded])
    special = tokenizer.special
    for length in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == length)
        size = max(1, TOKENS // ((length + 2) * length))
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            rows = [[special.cls, *encoded[place], special.sep] for place in chosen.tolist()]
            yield chosen, torch.tensor(rows)


def prefers_first(model: Encoder, tokenizer: Tokenizer, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return for each pair whether the first text is the likelier one, bool [N]; a tie is no preference."""
    sums = pseudo_log_likelihoods(model, tokenizer, [text for pair in pairs for text in pair])
    return np.asarray(sums[::2] > sums[1::2])
