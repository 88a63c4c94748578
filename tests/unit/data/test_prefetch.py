"""Batches made ahead are those of the plain draw, in any order, and errors come when the batch is asked for."""

from __future__ import annotations

import threading

import pytest
import torch

from bertwright.data.prefetch import Prefetcher
from bertwright.types import Batch


def batch_of(t: int) -> Batch:
    ids = torch.full((2, 4), t)
    return Batch(ids, ids * 0, ids >= 0, ids >= 0, ids >= 0)


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [5, 6, 0, 1, 1, 0]])
def test_any_order_gives_the_plain_draws(order: list[int]) -> None:
    ahead = Prefetcher(batch_of)
    assert [int(ahead(t).input_ids[0, 0]) for t in order] == order


def test_the_next_one_is_made_while_this_one_is_used() -> None:
    made = threading.Event()

    def draw(t: int) -> Batch:
        if t == 1:
            made.set()
        return batch_of(t)

    Prefetcher(draw)(0)
    assert made.wait(timeout=10)


def test_an_error_is_raised_for_the_batch_that_has_it() -> None:
    def draw(t: int) -> Batch:
        if t == 1:
            raise ValueError("batch 1")
        return batch_of(t)

    ahead = Prefetcher(draw)
    ahead(0)
    with pytest.raises(ValueError, match="batch 1"):
        ahead(1)
    assert int(ahead(2).input_ids[0, 0]) == 2
