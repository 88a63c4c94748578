"""Reading ahead keeps order, hands on errors, and ends its thread when left early."""

import threading
from collections.abc import Iterator

import pytest

from bertwright.corpus.executors.processes import read_ahead


def test_order_is_kept() -> None:
    assert list(read_ahead(iter(range(100)))) == list(range(100))


def test_an_error_arrives_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    ahead = read_ahead(items())
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)


def test_leaving_early_ends_the_thread() -> None:
    before = threading.active_count()
    ahead = read_ahead(iter(range(1000)))
    next(ahead)
    ahead.close()
    assert threading.active_count() == before
