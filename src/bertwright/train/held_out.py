"""Turns held-out text into a loss: the same rows and the same masks at every evaluation of every run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.pairs import why_no_pairs
from bertwright.log import note
from bertwright.objectives.base import PretrainingObjective
from bertwright.rng import key_of
from bertwright.tasks.metrics import with_perplexity
from bertwright.tokenizer.load import Tokenizer
from bertwright.train.parallel.group import ALONE, Group
from bertwright.types import Batch, Loss, MaskedBatch, flat_sums, part_figures

MASK_SEED = EVALUATION_SEED = 2018
"""Held-out masks and rows never depend on the seed of a run, so that runs can be compared."""
EVALUATION_ROWS = 32
"""Rows of a held-out batch; part of which rows are drawn."""


def held_out_examples(
    shards: Shards | None, tokenizer: Tokenizer, objective: PretrainingObjective, *, length: int, rows: int
) -> list[MaskedBatch]:
    """Return the fixed held-out set of a DATA folder (see `fixed_examples`); empty if there is none, with a note.

    A split too poor for pairs (one document, single sentences) gives none.
    """
    if shards is None:
        note("no held-out split in the data, so nothing is evaluated (prepare --valid-fraction 0.01 makes one)")
        return []
    ordered = objective.rows == "ordered_pairs"
    if objective.rows != "single" and (reason := why_no_pairs(shards, ordered=ordered)):
        note(f"the held-out split is not evaluated: {reason}")
        return []
    return fixed_examples(shards, tokenizer, objective, length=length, rows=rows)


def fixed_examples(
    shards: Shards, tokenizer: Tokenizer, objective: PretrainingObjective, *, length: int, rows: int
) -> list[MaskedBatch]:
    """Return up to `rows` rows of a split (at most one pass), masked, in batches of 32: always the same rows and masks.

    `objective` is one of `for_evaluation`, so that the masks do not depend on the settings of a run.
    """
    pairs, ordered = objective.rows != "single", objective.rows == "ordered_pairs"
    return masked_batches(
        objective, fixed_batches(shards, tokenizer, length=length, rows=rows, pairs=pairs, ordered=ordered)
    )


def fixed_batches(
    shards: Shards, tokenizer: Tokenizer, *, length: int, rows: int, pairs: bool = False, ordered: bool = False
) -> list[Batch]:
    """Return up to `rows` rows of a split (at most one pass) in batches of 32, before anything is hidden."""
    shards.check(tokenizer.vocab_size)
    source = BatchSource(
        shards, special=tokenizer.special, length=length, rows=EVALUATION_ROWS, pairs=pairs, ordered=ordered,
        seed=EVALUATION_SEED,
    )  # fmt: skip
    return [source.draw(t) for t in range(max(1, min(rows, source.rows_per_epoch) // EVALUATION_ROWS))]


def masked_batches(objective: PretrainingObjective, batches: Iterable[Batch]) -> list[MaskedBatch]:
    """Return batches with tokens hidden: always the same ones."""
    return [
        objective.corrupt(batch, torch.Generator().manual_seed(key_of("held-out mask", MASK_SEED, t)))
        for t, batch in enumerate(batches)
    ]


def held_out_figures(
    model: nn.Module,
    objective: PretrainingObjective,
    examples: Iterable[MaskedBatch],
    *,
    device: torch.device,
    cast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    group: Group = ALONE,
    loss_of: Callable[[nn.Module, MaskedBatch], Loss] | None = None,
) -> dict[str, float]:
    """Return mean losses (nats) and accuracies over all examples, e.g. mlm_loss, mlm_accuracy, nsp_loss, nsp_accuracy.

    Of masked tokens also mlm_perplexity, and what `objective.figures` adds. Means are over all targets of all examples
    together, not over batches, and read once, at the end. The model is left in the mode it was in. The processes of
    `group` share the examples and have the same figures; each makes as many forward passes, since sharded weights are
    gathered in each, but a surplus one counts nothing. `loss_of(model, example)` returns the loss where it takes more
    than the scores of the model.
    """

    def of_scores(model: nn.Module, example: MaskedBatch) -> Loss:
        with cast():
            scores = model(example)
        return objective.loss(scores, example)

    sums: dict[str, Tensor] = {}
    training = model.training
    model.eval()
    with torch.inference_mode():
        for example, counts in _shared(examples, group):
            loss = (loss_of or of_scores)(model, example.to(device))
            for name, value in flat_sums(loss.parts).items():
                more = counts * value.double()
                sums[name] = sums[name] + more if name in sums else more
        totals = dict(zip(sums, torch.stack(list(sums.values())).tolist() if sums else [], strict=True))
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


def with_nats_per_byte(figures: Mapping[str, float], bytes_per_token: float | None) -> dict[str, float]:
    """Return the figures with mlm_nats_per_byte, where they have mlm_loss and the bytes a token stands for are known.

    Losses a token of different vocabularies cannot be compared; a byte of text is the same for all.

    >>> with_nats_per_byte({"mlm_loss": 3.0}, 4.0)
    {'mlm_loss': 3.0, 'mlm_nats_per_byte': 0.75}
    """
    if bytes_per_token is None or "mlm_loss" not in figures:
        return dict(figures)
    return {**figures, "mlm_nats_per_byte": round(figures["mlm_loss"] / bytes_per_token, 6)}


def loss_to_choose_by(figures: Mapping[str, float]) -> float:
    """Return the held-out loss of the model that a run is for: that of replaced tokens where it finds them, else MLM.

    >>> loss_to_choose_by({"mlm_loss": 3.0, "mlm_accuracy": 0.4}), loss_to_choose_by({"mlm_loss": 3.0, "rtd_loss": 0.3})
    (3.0, 0.3)
    """
    return figures["rtd_loss"] if "rtd_loss" in figures else figures["mlm_loss"]


def mixed_figures(figures: Mapping[str, Mapping[str, float]], weights: Sequence[float]) -> dict[str, float]:
    """Return held-out figures of several folders as one mapping: of the mixture by their names, of each as NAME/figure.

    >>> mixed_figures({"en": {"mlm_loss": 4.0}, "de": {"mlm_loss": 6.0}}, [3, 1])
    {'mlm_loss': 4.5, 'mlm_perplexity': 90.017131, 'en/mlm_loss': 4.0, 'de/mlm_loss': 6.0}
    """
    if len(figures) == 1:
        return dict(next(iter(figures.values())))
    weight_of = dict(zip(figures, weights, strict=True))
    measured = {name: weight_of[name] for name, values in figures.items() if values}
    kinds = dict.fromkeys(kind for values in figures.values() for kind in values)
    mean = {
        kind: round(sum(figures[name][kind] * weight for name, weight in measured.items()) / sum(measured.values()), 6)
        for kind in kinds
        if all(kind in figures[name] for name in measured)
    }
    of_each = {f"{name}/{kind}": value for name, values in figures.items() for kind, value in values.items()}
    return with_perplexity(mean) | of_each
