"""Scores rows in bfloat16, and again in float32 those that this leaves in doubt: the same labels, sooner.

Products of bfloat16 numbers take half the time where the processor has them, and change logits by some hundredths. That
changes a prediction only where two were nearly as likely. How near is measured on the first rows, scored both ways.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext

import numpy as np
import torch

from bertwright.data.labelled.rows_of_labels import LabelledRows
from bertwright.device import Precision, has_bfloat16
from bertwright.inference.batching import BatchPolicy, cpu_policy, logits_of
from bertwright.inference.scoring import task_forward
from bertwright.model.encoder import LONG
from bertwright.model.layers.onednn_block import can_pack, pack
from bertwright.model.task_model import FineTuned
from bertwright.system import tune_malloc

FEWEST = 512
"""Rows below which nothing is worth measuring or laying out: they are scored in float32, unless "bf16" is asked for."""
SAMPLE = 128
"""Rows scored both ways."""
SAFETY = 3.0
"""A prediction is in doubt where its margin is under so many times the largest change of a margin measured."""
TOO_MANY = 0.3
"""Fraction of doubtful rows from which on bfloat16 does not pay."""

Margin = Callable[[np.ndarray], np.ndarray]
"""How far the nearest other prediction is, [Q], from logits [Q, outputs]."""


def class_margin(logits: np.ndarray) -> np.ndarray:
    """Return how much the largest logit of each row is larger than the next one: [Q] of [Q, K], K >= 2."""
    two = np.partition(logits, -2, axis=-1)[:, -2:]
    margin: np.ndarray = two[:, 1] - two[:, 0]
    return margin


def label_margin(logits: np.ndarray, cuts: np.ndarray | float = 0.0) -> np.ndarray:
    """Return how far the nearest logit is from its cut [K], where a label is given or not: [Q] of [Q, K]."""
    margin: np.ndarray = np.abs(logits - cuts).min(axis=-1)
    return margin


class Bf16Rescorer:
    """Scores rows of one model, chunk after chunk; what it measured on the first chunk holds for the others."""

    def __init__(self, model: FineTuned, *, device: torch.device, margin: Margin | None, precision: Precision) -> None:
        """Take over `model`.

        Without a `margin`, as of scores that are no choice, "auto" is float32. "bf16" scores nothing twice.
        """
        self.model, self.device, self.margin = model.eval().to(device), device, margin
        self.policy = BatchPolicy()
        if device.type == "cpu":
            self.policy = cpu_policy(lambda: torch.set_num_threads(1))
        self._measures = precision == "auto" and margin is not None and has_bfloat16(device)
        self._half = copy.deepcopy(model).to(torch.bfloat16) if precision == "bf16" else None
        self._margin = 0.0
        self._ready = False

    def __call__(self, rows: LabelledRows) -> np.ndarray:
        """Return logits [Q, outputs] float32 of every position, row after row."""
        threads = torch.get_num_threads()
        try:
            many_alike = self.device.type == "cpu" and rows.lengths.max(initial=0) <= LONG
            with tune_malloc() if many_alike else nullcontext():  # blocks of long rows fit none that was freed
                return self._score(rows)
        finally:
            torch.set_num_threads(threads)

    def _score(self, rows: LabelledRows) -> np.ndarray:
        if not self._ready and len(rows) >= FEWEST:
            self._prepare(rows)
            self._ready = True
        exact = task_forward(self.model, device=self.device)
        if self._half is None:
            return logits_of(exact, rows, policy=self.policy)
        logits = logits_of(task_forward(self._half, device=self.device), rows, policy=self.policy)
        if not self._margin:
            return logits
        return logits_of(exact, rows, policy=self.policy, into=logits, places=self._doubtful(rows, logits))

    def _prepare(self, rows: LabelledRows) -> None:
        """Do once what pays for many rows."""
        half = copy.deepcopy(self.model).to(torch.bfloat16) if self._measures else self._half
        for model in filter(None, (self.model, half)):
            if can_pack(self.device, next(model.parameters()).dtype):
                pack(model)
        if self._half is None and half is not None and self._few_in_doubt(half, rows):
            self._half = half

    def _few_in_doubt(self, half: FineTuned, rows: LabelledRows) -> bool:
        """Score some rows both ways; set the margin of doubt, and return whether few predictions are within it."""
        assert self.margin is not None
        places = np.linspace(0, len(rows) - 1, SAMPLE).astype(np.int64)
        sampled = np.zeros(len(rows), dtype=bool)
        sampled[places] = True
        of_sample = np.repeat(sampled, rows.num_targets)
        both = []
        for model in (self.model, half):
            logits = np.zeros((len(of_sample), self.model.classifier.out_features), dtype=np.float32)
            forward = task_forward(model, device=self.device)
            logits_of(forward, rows, policy=self.policy, into=logits, places=places)
            both.append(logits[of_sample])
        change = both[1] - both[0]
        largest = np.maximum(np.ptp(change, axis=-1), np.abs(change).max(axis=-1))
        self._margin = SAFETY * float(largest.max())
        owners = np.repeat(np.arange(len(rows)), rows.num_targets)[of_sample]
        in_doubt = len(np.unique(owners[self.margin(both[1]) < self._margin]))
        return in_doubt < TOO_MANY * SAMPLE

    def _doubtful(self, rows: LabelledRows, logits: np.ndarray) -> np.ndarray:
        """Return the rows that hold a prediction in doubt."""
        assert self.margin is not None
        owners = np.repeat(np.arange(len(rows)), rows.num_targets)
        doubtful: np.ndarray = np.unique(owners[self.margin(logits) < self._margin])
        return doubtful
