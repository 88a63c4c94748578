"""Labelled batches: every row once an epoch, little padding, the token budget kept, the same batch whenever asked."""

from __future__ import annotations

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows, LabelledSource, in_order_of_length
from bertwright.types import UNASKED


def some_rows(count: int = 300) -> LabelledRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 40, size=count)
    num_targets = random.integers(1, 3, size=count)
    ends = np.cumsum(lengths)
    return LabelledRows(
        ids=np.arange(int(ends[-1]), dtype=np.uint32) + 5,
        lengths=lengths,
        first_lengths=np.maximum(2, lengths // 2),
        positions=np.concatenate([np.arange(n) for n in num_targets]),
        num_targets=num_targets,
        targets=np.arange(int(num_targets.sum())),
        pad=0,
    )


def test_a_batch_is_its_rows_padded() -> None:
    rows = some_rows()
    places = np.array([7, 2, 7])
    batch = rows.batch(places)
    begins = np.cumsum(rows.lengths) - rows.lengths
    asked_begins = np.cumsum(rows.num_targets) - rows.num_targets
    for row, place in enumerate(places.tolist()):
        length, count = int(rows.lengths[place]), int(rows.num_targets[place])
        assert batch.input_ids[row, :length].tolist() == list(range(begins[place] + 5, begins[place] + 5 + length))
        assert not batch.input_ids[row, length:].any()
        assert int(batch.attention_mask[row].sum()) == length
        assert int((batch.token_type_ids[row] == 0)[:length].sum()) == rows.first_lengths[place]
        assert batch.targets[row, :count].tolist() == list(range(asked_begins[place], asked_begins[place] + count))
        assert (batch.targets[row, count:] == UNASKED).all()


def test_every_row_once_an_epoch_in_another_order() -> None:
    source = LabelledSource(some_rows(), batch_rows=16, tokens=256, seed=1)
    first, second = source.plan(0), source.plan(1)
    for plan in (first, second):
        assert sorted(np.concatenate(plan).tolist()) == list(range(300))
    assert np.concatenate(first).tolist() != np.concatenate(second).tolist()
    assert source.steps(1) == len(first)
    assert source.steps(1.5) == len(first) + round(len(second) / 2)
    assert source.steps(0.0001) == 1


def test_the_budget_is_kept_and_little_is_padding() -> None:
    rows = some_rows(2000)
    source = LabelledSource(rows, batch_rows=32, tokens=512, seed=0)
    batches = [rows.batch(places) for places in source.plan(0)]
    assert all(batch.input_ids.numel() <= 512 and len(batch.input_ids) <= 32 for batch in batches)
    padded = sum(batch.input_ids.numel() for batch in batches)
    assert int(rows.lengths.sum()) / padded > 0.95


def test_a_batch_is_the_same_whenever_asked() -> None:
    ahead, again = (LabelledSource(some_rows(), batch_rows=16, tokens=256, seed=3) for _ in range(2))
    last = ahead.steps(3) - 1
    drawn = [ahead.draw(t).input_ids for t in range(last + 1)]
    for t in (last, 0, 30):
        assert torch.equal(again.draw(t).input_ids, drawn[t])


def test_scoring_sees_every_row_once() -> None:
    seen = [places for places, _ in in_order_of_length(some_rows(), batch_rows=16, tokens=128)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(300))
