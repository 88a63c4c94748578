"""Turns labelled rows into batches of similar length under a token budget, so that next to nothing of them is padding.

Batch t is a pure function of (rows, seed, t), as everywhere. Rows of an epoch are shuffled, sorted by length within
pools of some batches, cut into batches, and the batches shuffled: neighbours in length meet, but never the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from bertwright.rng import stream
from bertwright.tokenizer.ragged import ranges
from bertwright.types import UNASKED, LabelledBatch, TokenRows

POOL = 64
"""Batches sorted by length together."""


B_co = TypeVar("B_co", bound=TokenRows, covariant=True)


class EncodedRows(ABC, Generic[B_co]):
    """Rows of any kind that batches can be made of: N of them."""

    if TYPE_CHECKING:

        @property
        def lengths(self) -> np.ndarray:
            """Tokens each row takes up in a batch of its own kind, int64 [N]."""

    @abstractmethod
    def __len__(self) -> int:
        """Return N."""

    @abstractmethod
    def batch(self, places: np.ndarray) -> B_co:
        """Return the rows at `places` [B] as a batch."""

    @property
    def order(self) -> np.ndarray:
        """What neighbours in a batch should be alike in, int64 [N]; rises with the lengths, which it is as a rule."""
        return self.lengths

    @property
    def row_lengths(self) -> np.ndarray:
        """Tokens of each row that a model reads, of which an example may have several, int64."""
        return self.lengths

    @property
    def longest(self) -> int:
        """Tokens of the longest row that a model reads."""
        return int(self.row_lengths.max())

    @property
    def row_count(self) -> int:
        """Rows that a model reads in an epoch."""
        return len(self)

    @property
    def rows_per_example(self) -> int:
        """Rows an example has in a batch, at most."""
        return 1

    def drawn(self) -> EncodedRows[B_co]:
        """Return what training draws as one: each row, usually."""
        return self


@dataclass(frozen=True)
class LabelledRows(EncodedRows[LabelledBatch]):
    """Encoded rows of a task, flat: N rows of T tokens in all, with Q targets.

    ids            [T] uint32  token ids, [CLS] A [SEP] or [CLS] A [SEP] B [SEP], row after row
    lengths        [N] int64   tokens of each row
    first_lengths  [N] int64   of which have the first token type: up to the first [SEP], that included, as a rule
    positions      [Q] int64   positions in their row that have a target; None where that is every token, and Q is T
    num_targets    [N] int64   how many of them each row has
    targets        [Q]         int64 the class, or float32 the score; [Q, K] float32 for several labels.
                               [N, ...] int64 what is true of each row, where every token has a target
    pad            id of the padding token
    together       [G] int64   where rows are answers to one question, among which one is chosen: how many each of the
                               G questions has. A batch of training holds all of a question's rows. None elsewhere
    """

    ids: np.ndarray
    lengths: np.ndarray
    first_lengths: np.ndarray
    positions: np.ndarray | None
    num_targets: np.ndarray
    targets: np.ndarray
    pad: int
    together: np.ndarray | None = None

    def __len__(self) -> int:
        """Return N."""
        return len(self.lengths)

    @cached_property
    def _begins(self) -> np.ndarray:
        return np.asarray(np.cumsum(self.lengths) - self.lengths)

    @cached_property
    def _target_begins(self) -> np.ndarray:
        return np.asarray(np.cumsum(self.num_targets) - self.num_targets)

    def batch(self, places: np.ndarray) -> LabelledBatch:
        """Return the rows at `places` [B], padded to the longest of them."""
        import torch  # here: a model that runs without torch reads rows too

        tensors = {name: torch.from_numpy(array) for name, array in self.arrays(places).items()}
        return LabelledBatch(asked=tensors.pop("asked", None), **tensors)

    def arrays(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return what `batch` holds, by name, as arrays; without `asked` where every token has a target."""
        lengths, first_lengths = self.lengths[places], self.first_lengths[places]
        columns = np.arange(int(lengths.max()))[None, :]
        mask = columns < lengths[:, None]
        tokens_at = ranges(self._begins[places], lengths)
        return {
            "input_ids": padded(self.ids[tokens_at].astype(np.int64), mask, fill=self.pad),
            "token_type_ids": ((columns >= first_lengths[:, None]) & mask).astype(np.int64),
            "attention_mask": mask,
            **self._targets(places),
        }

    def _targets(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return the positions and targets of the rows at `places` [B]."""
        if self.positions is None:
            return {"targets": self.targets[places]}
        counts = self.num_targets[places]
        slots = np.arange(int(counts.max()))[None, :] < counts[:, None]
        at = ranges(self._target_begins[places], counts)
        return {
            "asked": padded(self.positions[at], slots, fill=0),
            "targets": padded(self.targets[at], slots, fill=UNASKED),
        }

    @cached_property
    def usual_targets(self) -> int:
        """Targets of a row, the mean of all rows, at least one."""
        return max(1, round(float(np.mean(self.num_targets))))

    @property
    def rows_per_example(self) -> int:
        """Rows an example has in a batch, at most."""
        return 1 if self.together is None else int(self.together.max())

    def drawn(self) -> EncodedRows[LabelledBatch]:
        """Return what training draws as one: each row, or all rows of a question."""
        return self if self.together is None else QuestionRows(self, self.together)


@dataclass(frozen=True)
class QuestionRows(EncodedRows[LabelledBatch]):
    """Rows of which `counts` [G] at a time are answers to one question, and stand in a batch together."""

    rows: LabelledRows
    counts: np.ndarray

    def __len__(self) -> int:
        """Return G."""
        return len(self.counts)

    @cached_property
    def _begins(self) -> np.ndarray:
        return np.asarray(np.cumsum(self.counts) - self.counts)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens [G] of all rows of a question, each padded to the longest."""
        return np.asarray(np.maximum.reduceat(self.rows.lengths, self._begins) * self.counts)

    def batch(self, places: np.ndarray) -> LabelledBatch:
        """Return all rows of the questions at `places` [B], question after question."""
        return self.rows.batch(ranges(self._begins[places], self.counts[places]))


def padded(values: np.ndarray, mask: np.ndarray, *, fill: int) -> np.ndarray:
    """Return `values` [n, ...], row after row, where `mask` [B, S] is true, and `fill` elsewhere."""
    table = np.full((*mask.shape, *values.shape[1:]), fill, dtype=values.dtype)
    table[mask] = values
    return table


def cut_batches(places: np.ndarray, lengths: np.ndarray, *, rows: int, tokens: int) -> list[np.ndarray]:
    """Cut rows, sorted by ascending length, into batches of at most `rows` rows and `tokens` tokens with padding.

    `lengths` are those of all rows. A row longer than the budget is a batch of its own. Longest batches come first.
    """
    batches, end = [], len(places)
    while end > 0:
        count = min(rows, max(1, tokens // int(lengths[places[end - 1]])))
        batches.append(places[max(0, end - count) : end])
        end -= count
    return batches


def in_order_of_length(rows: EncodedRows[B_co], *, batch_rows: int, tokens: int) -> Iterator[tuple[np.ndarray, B_co]]:
    """Yield every row once as (places [B], batch), longest first: if memory does not do, that shows at once."""
    order = np.argsort(rows.order, kind="stable")
    for places in cut_batches(order, rows.lengths, rows=batch_rows, tokens=tokens):
        yield places, rows.batch(places)


class LabelledSource(Generic[B_co]):
    """Numbers the batches of a run over labelled rows: batch t belongs to the epoch it falls in."""

    def __init__(self, rows: EncodedRows[B_co], *, batch_rows: int, tokens: int, seed: int) -> None:
        """Cut `rows` into batches of at most `batch_rows` rows and `tokens` tokens; drawn again each epoch."""
        self.rows, self._batch_rows, self._tokens, self._seed = rows, batch_rows, tokens, seed
        self._begins = [0]
        self._plan: tuple[int, list[np.ndarray]] = (-1, [])

    def steps(self, epochs: float) -> int:
        """Return the batches of so many epochs, at least one."""
        whole = int(epochs)
        steps = self._begin_of(whole) + round((epochs - whole) * len(self.plan(whole)))
        return max(1, steps)

    def draw(self, t: int) -> B_co:
        """Return batch `t`, counted from the start of the run."""
        epoch = 0
        while self._begin_of(epoch + 1) <= t:
            epoch += 1
        return self.rows.batch(self.plan(epoch)[t - self._begin_of(epoch)])

    def plan(self, epoch: int) -> list[np.ndarray]:
        """Return the places in `rows` that make each batch of an epoch."""
        if self._plan[0] != epoch:
            self._plan = (epoch, self._planned(epoch))
        return self._plan[1]

    def _planned(self, epoch: int) -> list[np.ndarray]:
        random, lengths = stream("labelled rows", self._seed, epoch), self.rows.lengths
        order = random.permutation(len(lengths))
        batches: list[np.ndarray] = []
        for begin in range(0, len(order), POOL * self._batch_rows):
            pool = order[begin : begin + POOL * self._batch_rows]
            by_length = pool[np.argsort(self.rows.order[pool], kind="stable")]
            batches += cut_batches(by_length, lengths, rows=self._batch_rows, tokens=self._tokens)
        return [batches[place] for place in random.permutation(len(batches)).tolist()]

    def _begin_of(self, epoch: int) -> int:
        while len(self._begins) <= epoch:
            self._begins.append(self._begins[-1] + len(self.plan(len(self._begins) - 1)))
        return self._begins[epoch]
