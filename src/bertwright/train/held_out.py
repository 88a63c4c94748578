"""Turns held-out batches into a loss: the same rows and the same masks at every evaluation of every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from bertwright.objectives.base import PretrainingObjective
from bertwright.rng import key_of
from bertwright.tasks.metrics import with_perplexity
from bertwright.train.parallel.group import ALONE, Group
from bertwright.types import Batch, MaskedBatch, flat_sums, part_figures

MASK_SEED = 2018
"""Held-out masks never depend on the seed of a run, so that runs can be compared."""


def hold_out(batches: Iterable[Batch], objective: PretrainingObjective) -> list[MaskedBatch]:
    """Return the batches corrupted with fixed masks, ready to be scored again and again.

    `objective` is one of `for_evaluation`, so that the masks do not depend on the settings of a run.
    """
    return [
        objective.corrupt(batch, torch.Generator().manual_seed(key_of("held-out mask", MASK_SEED, index)))
        for index, batch in enumerate(batches)
    ]


def held_out_figures(
    model: nn.Module,
    objective: PretrainingObjective,
    examples: Iterable[MaskedBatch],
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    group: Group = ALONE,
) -> dict[str, float]:
    """Return mean losses (nats) and accuracies over all examples, e.g. mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy.

    Of masked tokens also mlm_perplexity, and what `objective.figures` adds. Means
    are over everything asked in all examples together, not over batches. The model is left in the mode it was in. The
    processes of `group` share the examples and have the same figures; each makes as many forward passes, since sharded
    weights are gathered in each, but a surplus one counts nothing.
    """
    totals: dict[str, float] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for example, counts in _shared(examples, group):
            on_device = example.to(device)
            with cast():
                scores = model(on_device)
            for name, value in flat_sums(objective.loss(scores, on_device).parts).items():
                totals[name] = totals.get(name, 0.0) + counts * float(value)
    model.train(training)
    totals = dict(group.total(totals))
    return with_perplexity(part_figures(totals)) | objective.figures(totals)


def _shared(examples: Iterable[MaskedBatch], group: Group) -> Iterator[tuple[MaskedBatch, float]]:
    """Yield the examples of one process of `group` and 1, then perhaps a surplus one and 0."""
    if group.size == 1:
        yield from ((example, 1.0) for example in examples)
        return
    held = list(examples)
    turns = -(-len(held) // group.size)
    for place in range(group.rank, turns * group.size, group.size):
        yield (held[place], 1.0) if place < len(held) else (held[0], 0.0)
