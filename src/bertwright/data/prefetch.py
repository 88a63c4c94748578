"""Makes the next batch while the device works on this one: for GPUs, whose steps leave the CPU idle.

Batches come in pinned memory: the copy of one overlaps with the making of the next and the work on the one before. A
batch is a pure function of its number, so what was made ahead is either the one asked for next or thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from bertwright.types import TokenRows

T = TypeVar("T", bound=TokenRows)


class Prefetcher(Generic[T]):
    """Calls `draw(t)`, and then makes batch `after(t)`, the one most likely asked for next, in a thread."""

    def __init__(self, draw: Callable[[int], T], after: Callable[[int], int] = lambda t: t + 1) -> None:
        """Start with nothing made ahead."""
        self._draw, self._after = draw, after
        self._thread = ThreadPoolExecutor(1, "drawing ahead")
        self._next: tuple[int, Future[T]] | None = None

    def __call__(self, t: int) -> T:
        """Return batch `t`; raises what `draw` raises."""
        if self._next is not None and self._next[0] == t:
            batch = self._next[1].result()
        else:
            batch = self._thread.submit(self._draw, t).result()
        following = self._after(t)
        self._next = (following, self._thread.submit(self._draw, following))
        return batch
