"""Chooses the tokens of a batch to be predicted, and hides them: 15% of a row, 80% [MASK] / 10% random / 10% as is.

Source: Devlin et al. 2018, section 3.1 and appendix A.1, and its reference data builder; whole words after its
"Whole Word Masking" release of 2019. Drawn afresh for each batch (dynamic masking, Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bertwright.types import Batch


def masked_slots(length: int, rate: float) -> int:
    """Return the number of tokens to predict in a full row of `length` tokens, rounded up: the M of an Example."""
    return max(1, math.ceil(rate * length - 1e-9))


def select_tokens(
    batch: Batch, *, rate: float, whole_word: bool, generator: torch.Generator, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return (positions [B, M] int64, weights [B, M] float32) of the tokens to predict, in order of position.

    Of a row that is max(1, round(rate * its tokens, special ones counted)) of its maskable tokens, as in 2018.
    With `whole_word` these are whole words (see `_choose_words`), so a row may hold a few fewer. Unused slots have
    weight 0 and position 0. Batch and generator are on the same device; a batch of 64 x 128 takes under 1 ms on a CPU,
    and there every machine draws the same masks.

    With `shares` [B, S] float32 tokens are drawn one after another with probabilities in proportion to them, words to
    the mean of their tokens; those of share 0 are not drawn.
    """
    length, device = batch.input_ids.shape[1], batch.input_ids.device
    slots = masked_slots(length, rate)
    budget = (batch.attention_mask.sum(1) * rate).round().long().clamp(1, slots)
    choose = _choose_words if whole_word else _choose_tokens
    chosen = choose(batch, budget, generator, shares)
    positions = torch.arange(length, device=device).masked_fill(~chosen, length).sort(1).values[:, :slots]
    used = positions < length
    return positions.masked_fill(~used, 0), used.float()


def corrupt_tokens(
    input_ids: Tensor,
    positions: Tensor,
    weights: Tensor,
    *,
    mask_id: int,
    vocab_size: int,
    mask_share: float,
    random_share: float,
    generator: torch.Generator,
) -> Tensor:
    """Return `input_ids` [B, S] with the chosen tokens hidden: each is [MASK], a random token, or left as it is.

    Random tokens come from the whole vocabulary, special ones included, as in the reference data builder. Unused slots
    point at position 0, which is [CLS] and written back unchanged.
    """
    true = input_ids.gather(1, positions)
    coin = torch.rand(positions.shape, generator=generator, device=true.device)
    random = torch.randint(vocab_size, positions.shape, generator=generator, device=true.device)
    hidden = torch.where(coin < mask_share, torch.full_like(true, mask_id), random)
    hidden = torch.where((weights > 0) & (coin < mask_share + random_share), hidden, true)
    return input_ids.scatter(1, positions, hidden)


def _choose_tokens(batch: Batch, budget: Tensor, generator: torch.Generator, shares: Tensor | None) -> Tensor:
    """Return [B, S] bool: `budget` [B] maskable tokens of each row without replacement, uniformly or by `shares`."""
    maskable = batch.maskable if shares is None else batch.maskable & (shares > 0)
    keys = _keys(maskable, generator, shares)
    rank = torch.arange(keys.shape[1], device=keys.device).expand_as(keys)
    taken = torch.empty_like(rank).scatter_(1, keys.argsort(1), rank) < budget[:, None]
    return taken & maskable


def _keys(candidates: Tensor, generator: torch.Generator, shares: Tensor | None) -> Tensor:
    """Return [B, S] float32 whose order is a random one, of `candidates` [B, S] bool first; by `shares`, if given.

    The order of exponential variables divided by shares is that of draws without replacement in proportion to them
    (Efraimidis and Spirakis 2006, "Weighted Random Sampling with a Reservoir").
    """
    keys = torch.rand(candidates.shape, generator=generator, device=candidates.device)
    if shares is None:
        return keys.masked_fill(~candidates, 2.0)
    return (-torch.log1p(-keys) / shares).masked_fill(~candidates, math.inf)


def _choose_words(batch: Batch, budget: Tensor, generator: torch.Generator, shares: Tensor | None) -> Tensor:
    """Return [B, S] bool: tokens of whole words, taken in random order; a word that no longer fits is passed over.

    Where no word of a row fits its budget (a row of a few tokens), the first `budget` tokens of the first word drawn
    are taken, so that every row has at least one token to predict.
    """
    starts = batch.word_starts & batch.maskable
    word = (starts.cumsum(1) - 1).clamp(min=0)
    sizes = torch.zeros_like(word).scatter_add_(1, word, batch.maskable.long())
    if shares is not None:
        summed = torch.zeros_like(shares).scatter_add_(1, word, shares.masked_fill(~batch.maskable, 0.0))
        shares = summed / sizes.clamp(min=1)
        sizes = sizes.masked_fill(shares <= 0, 0)
    order = _keys(sizes > 0, generator, shares).argsort(1)
    drawn = sizes.gather(1, order)
    taken = _fill_in_order(drawn, budget)
    nothing = ~taken.any(1)
    taken[:, 0] |= nothing
    words = torch.zeros_like(taken).scatter_(1, order, taken)
    chosen = words.gather(1, word) & batch.maskable
    return chosen & (chosen.cumsum(1) <= budget[:, None])


def _fill_in_order(sizes: Tensor, budget: Tensor) -> Tensor:
    """Return [B, W] bool: which of the words, taken in order while they fit `budget` [B] tokens, are taken.

    Each round takes every word up to the first misfit, then drops all that no longer fit; for budgets of 19 to 77
    tokens that is 2 to 6 rounds in place of a step for each word.
    """
    taken = torch.zeros_like(sizes, dtype=torch.bool)
    left = budget.clone()
    while True:
        open_ = ~taken & (sizes > 0) & (sizes <= left[:, None])
        if not bool(open_.any()):
            return taken
        fits = (sizes * open_).cumsum(1) <= left[:, None]
        now = open_ & fits
        taken |= now
        left -= (sizes * now).sum(1)
