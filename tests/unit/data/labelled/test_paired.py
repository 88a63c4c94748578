"""Pairs become batches padded on either side; what the decoder reads is what it writes, one token later."""

from __future__ import annotations

import numpy as np
import torch

from bertwright.data.labelled.paired import PairedRows
from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.types import UNASKED


def some_rows() -> PairedRows:
    return PairedRows(
        source_ids=np.array([2, 7, 3, 2, 8, 9, 3], dtype=np.uint32),
        source_lengths=np.array([3, 4]),
        target_ids=np.array([2, 11, 12, 3, 2, 13, 3], dtype=np.uint32),
        target_lengths=np.array([4, 3]),
        pad=0,
    )


def test_a_batch_in_full() -> None:
    batch = some_rows().batch(np.array([1, 0]))
    assert batch.input_ids.tolist() == [[2, 8, 9, 3], [2, 7, 3, 0]]
    assert batch.attention_mask.tolist() == [[True] * 4, [True] * 3 + [False]]
    assert batch.decoder_ids.tolist() == [[2, 13, 0], [2, 11, 12]]
    assert batch.labels.tolist() == [[13, 3, UNASKED], [11, 12, 3]]
    assert int(batch.token_type_ids.sum()) == 0


def test_an_epoch_has_every_pair_once_within_the_budget() -> None:
    random = np.random.default_rng(0)
    source, target = random.integers(3, 30, size=500), random.integers(3, 30, size=500)
    rows = PairedRows(
        np.arange(source.sum()).astype(np.uint32), source, np.zeros(target.sum(), dtype=np.uint32), target, pad=0
    )
    batches = LabelledSource(rows, batch_rows=16, tokens=400, seed=0)
    drawn = [batches.draw(t) for t in range(batches.steps(1))]
    assert sorted(torch.cat([batch.input_ids[batch.attention_mask] for batch in drawn]).tolist())[1:] == list(
        range(1, int(source.sum()))
    )
    assert max(batch.input_ids.numel() + batch.decoder_ids.numel() for batch in drawn) <= 400
    assert max(len(batch.input_ids) for batch in drawn) == 16
