"""Batches of texts that belong together: a row a text, column after column, within the token budget."""

from __future__ import annotations

import numpy as np

from bertwright.data.labelled.rows_of_labels import LabelledRows, LabelledSource
from bertwright.data.labelled.sentence_rows import SentenceRows


def some_rows(columns: int, count: int = 50) -> SentenceRows:
    random = np.random.default_rng(0)
    lengths = random.integers(3, 20, size=30)
    texts = LabelledRows(
        ids=np.repeat(np.arange(30, dtype=np.uint32) + 5, lengths),
        lengths=lengths,
        first_lengths=lengths,
        positions=np.zeros(30, dtype=np.int64),
        num_targets=np.ones(30, dtype=np.int64),
        targets=np.zeros(30, dtype=np.int64),
        pad=0,
    )
    members = random.integers(30, size=(count, columns))
    return SentenceRows(texts, members, random.random(count).astype(np.float32))


def test_a_batch_has_all_first_texts_then_all_second_ones() -> None:
    rows, places = some_rows(3), np.array([4, 0, 9, 4])
    batch = rows.batch(places)
    assert batch.texts.tolist() == rows.members[places].T.tolist()
    assert (batch.input_ids[:, 0] - 5).tolist() == batch.texts.flatten().tolist()
    assert batch.attention_mask.sum(1).tolist() == rows.texts.lengths[rows.members[places].T.reshape(-1)].tolist()
    assert batch.scores is not None
    assert batch.scores.tolist() == rows.scores[places].tolist()  # type: ignore[index]


def test_every_example_once_an_epoch_within_the_budget() -> None:
    rows = some_rows(2)
    source = LabelledSource(rows, batch_rows=16, tokens=200, seed=0)
    assert sorted(np.concatenate(source.plan(0)).tolist()) == list(range(50))
    for t in range(len(source.plan(0))):
        assert source.draw(t).input_ids.numel() <= 200
