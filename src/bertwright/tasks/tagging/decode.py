"""Turns the flat logits of the words of many sentences into tags and probabilities by a CRF, some hundred at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bertwright.model.crf_decode import CRFDecoder

SENTENCES = 256
"""Sentences decoded together, of similar length."""


@dataclass(frozen=True)
class DecodedTags:
    """What a CRF says of W words: the best tags [W] int64, log probabilities [W, K], and the nats of the labels."""

    tags: np.ndarray
    log_probabilities: np.ndarray
    nats: float


def decode_tags(decoder: CRFDecoder, logits: np.ndarray, counts: np.ndarray, targets: np.ndarray) -> DecodedTags:
    """Return the tags of logits [W, K] of sentences of `counts` [N] words, and how likely `targets` [W] are."""
    tags, logs = np.empty(len(logits), dtype=np.int64), np.empty(logits.shape, dtype=np.float64)
    nats = 0.0
    for places, mask in _batches(counts):
        scores, flat = logits[places].astype(np.float64), places[mask]
        tags[flat] = decoder.decode(scores, mask)[mask]
        logs[flat] = decoder.log_marginals(scores, mask)[mask]
        nats += float(decoder.negative_log_likelihood(scores, targets[places], mask).sum())
    return DecodedTags(tags, logs, nats)


def _batches(counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the places [B, M] of the words of some sentences, and where there are any, bool [B, M]."""
    begins = np.cumsum(counts) - counts
    order = np.argsort(counts, kind="stable")
    order = order[counts[order] > 0]
    for at in range(0, len(order), SENTENCES):
        some = order[at : at + SENTENCES]
        columns = np.arange(int(counts[some].max()))[None, :]
        mask = columns < counts[some][:, None]
        yield np.where(mask, begins[some][:, None] + columns, begins[some][:, None]), mask
