"""Turns examples of texts that belong together into batches: a row a text, and equal texts known as such.

A text that stands in several examples is encoded once. Which text stands where says what is no negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import EncodedRows, LabelledRows
from bertwright.types import SentenceBatch


@dataclass(frozen=True)
class SentenceRows(EncodedRows[SentenceBatch]):
    """N examples of K texts each, out of U different texts.

    texts    the U texts as rows
    members  [N, K] int64  which of them each example has: the first, what is like it, and what is unlike it
    scores   [N] float32   how alike the two texts of an example are, 0 to 1; None where nothing says
    """

    texts: LabelledRows
    members: np.ndarray
    scores: np.ndarray | None

    def __len__(self) -> int:
        """Return N."""
        return len(self.members)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Tokens [N] each example takes up in a batch of its own kind: its texts, padded to the longest."""
        taken: np.ndarray = self.texts.lengths[self.members].max(axis=1) * self.members.shape[1]
        return taken

    @property
    def row_lengths(self) -> np.ndarray:
        """Tokens of each text, int64 [U]."""
        return self.texts.lengths

    @property
    def row_count(self) -> int:
        """Rows that a model reads in an epoch: N K."""
        return int(self.members.size)

    @property
    def rows_per_example(self) -> int:
        """Rows an example has in a batch: K."""
        return int(self.members.shape[1])

    def batch(self, places: np.ndarray) -> SentenceBatch:
        """Return the examples at `places` [B], their rows padded to the longest of them."""
        members = np.ascontiguousarray(self.members[places].T)
        rows = self.texts.batch(members.reshape(-1))
        return SentenceBatch(
            input_ids=rows.input_ids,
            token_type_ids=rows.token_type_ids,
            attention_mask=rows.attention_mask,
            texts=torch.from_numpy(members),
            scores=None if self.scores is None else torch.from_numpy(self.scores[places]),
        )
