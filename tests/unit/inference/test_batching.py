"""Running a model batch by batch: everything once, in order, however many threads; errors come through."""

from __future__ import annotations

import numpy as np
import pytest

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.inference.batching import BatchPolicy, in_batches, logits_of

POLICIES = [BatchPolicy(rows=8, tokens=128), BatchPolicy(rows=8, tokens=128, workers=3)]


def some_rows(count: int) -> LabelledRows:
    random = np.random.default_rng(0)
    lengths, counts = random.integers(4, 30, size=count), random.integers(1, 4, size=count)
    return LabelledRows(
        ids=np.repeat(np.arange(count), lengths).astype(np.uint32),
        lengths=lengths,
        first_lengths=lengths,
        positions=np.concatenate([np.arange(one) for one in counts]),
        num_targets=counts,
        targets=np.zeros(int(counts.sum()), dtype=np.int64),
        pad=count,
    )


def row_and_place(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Answer with the number of the row, which is its token, and the position asked about."""
    positions = arrays["asked"]
    return np.stack([np.repeat(arrays["input_ids"][:, :1], positions.shape[1], 1), positions], -1).astype(np.float32)


@pytest.mark.parametrize("policy", POLICIES)
def test_answers_stand_where_they_were_asked(policy: BatchPolicy) -> None:
    rows = some_rows(200)
    scores = logits_of(row_and_place, rows, policy=policy)
    np.testing.assert_array_equal(scores[:, 0], np.repeat(np.arange(200), rows.num_targets))
    np.testing.assert_array_equal(scores[:, 1], rows.positions)


@pytest.mark.parametrize("policy", POLICIES)
def test_batches_keep_to_the_policy_longest_first(policy: BatchPolicy) -> None:
    rows = some_rows(200)
    batches = [places for places, _ in in_batches(lambda _: None, rows, policy=policy)]
    assert sorted(np.concatenate(batches).tolist()) == list(range(200))
    assert all(len(places) <= 8 and len(places) * rows.lengths[places].max() <= 128 for places in batches)
    longest = [int(rows.lengths[places].max()) for places in batches]
    assert longest == sorted(longest, reverse=True)


def test_some_rows_into_what_is_there() -> None:
    rows = some_rows(50)
    into = np.full((int(rows.num_targets.sum()), 2), -1.0, dtype=np.float32)
    places = np.array([3, 7, 40])
    assert logits_of(row_and_place, rows, policy=POLICIES[0], into=into, places=places) is into
    owners = np.repeat(np.arange(50), rows.num_targets)
    np.testing.assert_array_equal(into[:, 0], np.where(np.isin(owners, places), owners, -1))


def test_errors_of_a_thread_come_through() -> None:
    def fails(arrays: dict[str, np.ndarray]) -> np.ndarray:
        raise ValueError("no answer")

    with pytest.raises(ValueError, match="no answer"):
        logits_of(fails, some_rows(50), policy=POLICIES[1])
