"""Turns rows of a task, labelled or not, and what teachers answer about them into the batches of a student."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from torch import Tensor

from bertwright.batch_layout import Places
from bertwright.data.labelled.rows_of_labels import LabelledRows, padded
from bertwright.tokenizer.ragged import ranges
from bertwright.types import LabelledBatch


@dataclass(frozen=True)
class TaughtBatch(LabelledBatch):
    """Rows of a task with what the teachers answer.

    taught    [B, M, K] float32  logits of the teachers where something is asked; 0 elsewhere
    labelled  of the B rows, those whose targets are known
    """

    taught: Tensor
    labelled: Places

    def known(self) -> LabelledBatch:
        """Return the rows whose targets are known, with these."""
        rows, asked = self.labelled.flat, self.asked
        return LabelledBatch(
            input_ids=self.input_ids[rows],
            token_type_ids=self.token_type_ids[rows],
            attention_mask=self.attention_mask[rows],
            asked=None if asked is None else asked[rows],
            targets=self.targets[rows],
        )


@dataclass(frozen=True)
class TaughtRows(LabelledRows):
    """Rows of a task, of which some have labels, and the logits of teachers for all.

    taught    [Q, K] float32  logits, a row a position asked about
    labelled  [N] bool
    """

    taught: np.ndarray | None = None
    labelled: np.ndarray | None = None

    @classmethod
    def of(cls, rows: LabelledRows, *, unlabelled: LabelledRows | None = None, labelled: bool = True) -> Self:
        """Return rows that are `labelled` or not, then others that are not; all of one task."""
        several = [rows] if unlabelled is None else [rows, unlabelled]
        known = np.concatenate([np.full(len(one), labelled and place == 0) for place, one in enumerate(several)])
        joined = {field.name: _joined([getattr(one, field.name) for one in several]) for field in fields(LabelledRows)}
        return cls(**joined, labelled=known)

    def _targets(self, places: np.ndarray) -> dict[str, np.ndarray]:
        """Return positions and targets of the rows at `places` [B], and, once they are there, what teachers answer."""
        found = super()._targets(places)
        if self.taught is None or self.labelled is None:
            return found
        counts = self.num_targets[places]
        mask = np.arange(int(counts.max()))[None, :] < counts[:, None]
        taught = np.asarray(self.taught[ranges(self._target_begins[places], counts)])
        return found | {"taught": padded(taught, mask, fill=0), "labelled": self.labelled[places]}

    def batch(self, places: np.ndarray) -> LabelledBatch:
        """Return the rows at `places` [B], padded to the longest of them."""
        if self.taught is None:
            return super().batch(places)
        import torch

        tensors = {name: torch.from_numpy(array) for name, array in self.arrays(places).items()}
        labelled = Places.of(tensors.pop("labelled")[:, None])
        return TaughtBatch(asked=tensors.pop("asked", None), labelled=labelled, **tensors)


def _joined(values: Sequence[Any]) -> Any:
    """Return arrays one after the other; a number, or nothing, as it is."""
    first = values[0]
    if not isinstance(first, np.ndarray):
        return first
    return np.concatenate([np.asarray(one) for one in values])
