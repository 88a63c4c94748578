"""Turns what a model predicts of a row into the numbers that are explained: scores of variants of the row.

The word behind a [MASK], a label, a tag: the log-odds of it. That the second text follows: its log-odds. A regression:
its score. An answer: how far its start and end logits are above those of no answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bertwright.inspection.attribution import Score, log_odds
from bertwright.inspection.word_rows import WordRow
from bertwright.model.encoder import Encoder
from bertwright.model.task_model import FineTuned
from bertwright.types import LabelledBatch


@dataclass(frozen=True)
class Target:
    """A prediction, and the number that is explained of it.

    of     the word, label, tag or answer
    unit   what the number is
    score  gives it for variants of the row
    """

    of: str
    unit: Literal["log-odds", "score"]
    score: Score


def mask_target(model: Encoder, row: WordRow, place: int, *, token: int, name: str) -> Target:
    """Return the log-odds of a token at the [MASK] at a position."""

    def score(ids: Tensor) -> Tensor:
        at = torch.full((len(ids), 1), place, device=ids.device)
        return log_odds(model.mlm_logits(model.encode(ids, *_frame(row, ids), at))[:, 0], token)

    return Target(name, "log-odds", score)


def next_target(model: Encoder, row: WordRow, *, name: str) -> Target:
    """Return the log-odds of the second text following the first; the model has a head for it."""

    def score(ids: Tensor) -> Tensor:
        logits = model.nsp_logits(model.encode(ids, *_frame(row, ids), torch.zeros_like(ids[:, :1])))
        assert logits is not None
        return log_odds(logits, 0)

    return Target(name, "log-odds", score)


def label_target(model: FineTuned, row: WordRow, label: int, *, name: str) -> Target:
    """Return the log-odds of one label among several of which one is chosen."""
    return Target(name, "log-odds", lambda ids: log_odds(task_logits(model, row, ids, [0])[:, 0], label))


def output_target(
    model: FineTuned, row: WordRow, output: int, *, name: str, unit: Literal["log-odds", "score"]
) -> Target:
    """Return one logit: the score of a regression, or the log-odds of a label that stands for itself."""
    return Target(name, unit, lambda ids: task_logits(model, row, ids, [0])[:, 0, output])


def tag_target(model: FineTuned, row: WordRow, places: Sequence[int], *, tags: Sequence[int], name: str) -> Target:
    """Return the mean of the log-odds of the tags of some words, whose first tokens stand at `places`."""

    def score(ids: Tensor) -> Tensor:
        logits = task_logits(model, row, ids, places)
        return torch.stack([log_odds(logits[:, slot], tag) for slot, tag in enumerate(tags)]).mean(0)

    return Target(name, "log-odds", score)


def answer_target(model: FineTuned, row: WordRow, start: int, *, end: int, name: str) -> Target:
    """Return how far start logit plus end logit of a span of tokens are above those of no answer, at [CLS]."""

    def score(ids: Tensor) -> Tensor:
        logits = task_logits(model, row, ids, None)
        return logits[:, start, 0] + logits[:, end, 1] - logits[:, 0].sum(-1)

    return Target(name, "score", score)


def task_logits(model: FineTuned, row: WordRow, ids: Tensor, places: Sequence[int] | None) -> Tensor:
    """Return logits [N, M, outputs] of variants `ids` [N, S] of a row at M places, or at all its tokens."""
    asked = None if places is None else torch.tensor(list(places), device=ids.device).expand(len(ids), -1)
    logits: Tensor = model(LabelledBatch(ids, *_frame(row, ids), asked=asked, targets=ids))
    return logits


def _frame(row: WordRow, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return token types and mask of variants of a row."""
    return row.types.to(ids.device).expand_as(ids), torch.ones_like(ids, dtype=torch.bool)


Targets = Callable[[WordRow], list[Target]]
"""Returns what is explained of a row."""
