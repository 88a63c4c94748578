"""Turns the schedule of a run into the batches of each step, and counts what is in them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from bertwright.data.labelled.rows_of_labels import LabelledSource
from bertwright.data.prefetch import Prefetcher
from bertwright.train.parallel.group import ALONE, BatchSlice, Group
from bertwright.train.schedule import ScheduleConfig
from bertwright.types import TokenRows

Work = Sequence[tuple[BatchSlice, TokenRows]]
"""What one process does of a step: slices of micro-batches, and the whole of each micro-batch."""


class Loader(ABC):
    """The batches of a run: micro-batch t of a phase is a function of the data, the seed, the phase and t alone.

    schedule       how long the run is, and its phases
    accumulation   micro-batches a step
    group          the processes that share them
    parts          parts that each process computes its rows of a micro-batch in, one after another
    """

    parts = 1

    def __init__(self, schedule: ScheduleConfig, *, accumulation: int = 1, group: Group = ALONE) -> None:
        """Load batches for one process of `group`."""
        self.schedule, self.accumulation, self.group = schedule, accumulation, group

    @abstractmethod
    def draw(self, phase: int, t: int) -> TokenRows:
        """Return micro-batch `t` of a phase, on the CPU."""

    @abstractmethod
    def rows_per_epoch(self, phase: int) -> int:
        """Return the rows of a pass over the data, as a phase cuts them."""

    @abstractmethod
    def flops(self, batch: TokenRows, *, phase: int, fraction: float) -> int:
        """Return the useful floating-point operations of training on a micro-batch, at a fraction of the run."""

    def work(self, phase: int, first: int) -> Work:
        """Return what this process does of the step whose micro-batches begin at number `first` of a phase."""
        found: list[tuple[BatchSlice, TokenRows]] = []
        for batch_slice in self.group.slices(self.accumulation):
            batch = self.draw(phase, first + batch_slice.index)
            found += [(part, batch) for part in batch_slice.parts(self.parts)]
        return found

    def counts(self, work: Work, *, phase: int, fraction: float) -> dict[str, float]:
        """Return the rows, tokens and places for tokens, and useful operations of what this process does of a step.

        Places that hold no token are padding.
        """
        mine = [batch_slice.rows(len(batch.input_ids)) for batch_slice, batch in work]
        masks = [batch.attention_mask[rows] for rows, (_, batch) in zip(mine, work, strict=True)]
        return {
            "rows": sum(rows.stop - rows.start for rows in mine),
            "tokens": sum(int(mask.sum()) for mask in masks),
            "places": sum(mask.numel() for mask in masks),
            "flops": sum(
                self.flops(batch, phase=phase, fraction=fraction) * batch_slice.fraction for batch_slice, batch in work
            ),
        }


class TaskLoader(Loader):
    """The batches of a fine-tuning run, which has one phase: `flops` counts the operations of training on one."""

    def __init__(
        self,
        source: LabelledSource[Any],
        schedule: ScheduleConfig,
        *,
        rows_per_epoch: int,
        flops: Callable[[TokenRows], int],
        prefetch: bool = False,
    ) -> None:
        """Load the batches of `source`; with `prefetch`, for a GPU, each is made while it works on the one before."""
        super().__init__(schedule)
        self.source, self._rows_per_epoch, self._flops = source, rows_per_epoch, flops
        self._prefetcher = Prefetcher(self._pinned) if prefetch else None

    def _pinned(self, t: int) -> TokenRows:
        batch: TokenRows = self.source.draw(t).pinned()
        return batch

    def draw(self, phase: int, t: int) -> TokenRows:
        """Return batch `t`."""
        batch: TokenRows = self.source.draw(t) if self._prefetcher is None else self._prefetcher(t)
        return batch

    def rows_per_epoch(self, phase: int) -> int:
        """Return the rows of a pass over the examples."""
        return self._rows_per_epoch

    def flops(self, batch: TokenRows, *, phase: int, fraction: float) -> int:
        """Return the operations of training on a batch."""
        return self._flops(batch)
