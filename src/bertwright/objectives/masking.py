"""Chooses the tokens of a batch to be predicted, and hides them: 15% of a row, 80% [MASK] / 10% random / 10% as is.

Source: Devlin et al. 2018, section 3.1 and appendix A.1, and its reference data builder; whole words after its
"Whole Word Masking" release of 2019; spans of words as SpanBERT (Joshi et al. 2020, section 3.1) and MacBERT (Cui et
al. 2020, section 3.2) draw them. Drawn afresh for each batch (dynamic masking, Liu et al. 2019, section 4.1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

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
    slots = masked_slots(batch.input_ids.shape[1], rate)
    choose = _choose_words if whole_word else _choose_tokens
    return _in_slots(choose(batch, _budget(batch, rate, slots), generator, shares), slots)


def select_spans(
    batch: Batch, *, rate: float, lengths: Sequence[float], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return (positions [B, M] int64, weights [B, M] float32) as `select_tokens` does, of spans of whole words.

    Each segment is cut into spans; a fraction of them in proportion to `lengths[n - 1]` has n words, but for the last
    of a segment. Spans are taken in random order until the budget of the row is used up; the last one taken is cut
    after a word that fits, so a row may hold a few tokens fewer. Nothing waits for the device.
    """
    slots = masked_slots(batch.input_ids.shape[1], rate)
    return _in_slots(_choose_spans(batch, _budget(batch, rate, slots), lengths, generator), slots)


def _budget(batch: Batch, rate: float, slots: int) -> Tensor:
    """Return [B] int64: how many tokens of each row are to be predicted."""
    return (batch.attention_mask.sum(1) * rate).round().long().clamp(1, slots)


def _in_slots(chosen: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """Return the positions and weights [B, M] of the tokens that `chosen` [B, S] bool marks."""
    length = chosen.shape[1]
    positions = torch.arange(length, device=chosen.device).masked_fill(~chosen, length).sort(1).values[:, :slots]
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
    alike: Tensor | None = None,
) -> Tensor:
    """Return `input_ids` [B, S] with the chosen tokens hidden: each is [MASK], a random token, or left as it is.

    Random tokens come from the whole vocabulary, special ones included, as in the reference data builder. Unused slots
    point at position 0, which is [CLS] and written back unchanged. Slots with the same number in `alike` [B, M], that
    of one of them, are hidden in the same way.
    """
    true = input_ids.gather(1, positions)
    coin = torch.rand(positions.shape, generator=generator, device=true.device)
    coin = coin if alike is None else coin.gather(1, alike)
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


def _choose_spans(batch: Batch, budget: Tensor, lengths: Sequence[float], generator: torch.Generator) -> Tensor:
    """Return [B, S] bool: tokens of whole words, span after span in random order.

    Where the first word drawn is longer than the budget of its row, its first `budget` tokens are taken.
    """
    starts = batch.word_starts & batch.maskable
    word = (starts.cumsum(1) - 1).clamp(min=0)
    span = spans_of(starts, batch.maskable, lengths, generator)
    keys = torch.rand(word.shape, generator=generator, device=word.device).gather(1, span)
    places = torch.arange(word.shape[1], device=word.device).expand_as(word)
    order = keys.masked_fill(~batch.maskable, 2.0).argsort(dim=1, stable=True)
    rank = torch.empty_like(places).scatter_(1, order, places).masked_fill(~batch.maskable, 0)
    last = torch.zeros_like(rank).scatter_reduce_(1, word, rank, "amax").gather(1, word)
    whole = batch.maskable & (last < budget[:, None])
    part = batch.maskable & (rank < budget[:, None])
    return torch.where(whole.any(1, keepdim=True), whole, part)


def spans_of(starts: Tensor, maskable: Tensor, lengths: Sequence[float], generator: torch.Generator) -> Tensor:
    """Return [B, S] int64: a number for each span of words of a row, at each of its tokens; anything elsewhere.

    `starts` [B, S] are the first tokens of words. A token of `maskable` [B, S] after one that is not begins a segment,
    and a span. A length is drawn for every word of the row, and a segment uses those of its own words in order, as many
    as it needs: the ends of its spans, added up, say into which of them a word falls.
    """
    draws = torch.rand(starts.shape, generator=generator, device=starts.device)
    drawn = torch.ones_like(draws, dtype=torch.int64)
    for end in list(accumulate(lengths))[:-1]:
        drawn += draws * sum(lengths) >= end
    ends = drawn.cumsum(1)
    word = (starts.cumsum(1) - 1).clamp(min=0)
    opens = maskable & ~functional.pad(maskable[:, :-1], (1, 0))
    first = word.where(opens, 0).cummax(1).values
    return torch.searchsorted(ends, (ends - drawn).gather(1, first) + word - first, right=True)


def first_slots(opens: Tensor) -> Tensor:
    """Return [B, M] int64: for each slot the last one up to it that `opens` [B, M] bool marks, such as a word's first.

    >>> first_slots(torch.tensor([[True, False, True, True, False]])).tolist()
    [[0, 0, 2, 3, 3]]
    """
    slots = torch.arange(opens.shape[1], device=opens.device)
    return slots.where(opens, 0).cummax(1).values


def runs_open(positions: Tensor) -> Tensor:
    """Return [B, M] bool: the slots whose token does not follow that of the slot before it; unused slots are some.

    >>> runs_open(torch.tensor([[1, 2, 5, 0, 0]])).tolist()
    [[True, False, True, True, True]]
    """
    return functional.pad(positions[:, 1:] != positions[:, :-1] + 1, (1, 0), value=True)


def _fill_in_order(sizes: Tensor, budget: Tensor) -> Tensor:
    """Return [B, W] bool: which of the words, taken in order while they fit `budget` [B] tokens, are taken.

    Each round takes every word up to the first misfit, then drops all that no longer fit; for budgets of 19 to 77
    tokens that is 2 to 6 rounds in place of a step for each word. A CPU stops there; a GPU, of which nobody asks how
    far it is, makes as many as any row may need.
    """
    taken = torch.zeros_like(sizes, dtype=torch.bool)
    left = budget.clone()
    for _ in range(most_rounds(sizes.shape[1])):
        open_ = ~taken & (sizes > 0) & (sizes <= left[:, None])
        if _is_done(open_):
            break
        fits = (sizes * open_).cumsum(1) <= left[:, None]
        now = open_ & fits
        taken |= now
        left -= (sizes * now).sum(1)
    return taken


def most_rounds(length: int) -> int:
    """Return a number of rounds that is enough for any row of `length` tokens.

    A round that is not the last takes a word, and ends at one of s tokens that no longer fits; nor does any word of s
    or more later on. So r such rounds need words of r different sizes, 1 + ... + r tokens at least, and r tokens more.

    >>> most_rounds(128), most_rounds(512)
    (15, 31)
    """
    return 1 + (math.isqrt(9 + 8 * length) - 3) // 2


def _is_done(open_: Tensor) -> bool:
    """Say whether no word is left, where it costs nothing to look: on a CPU."""
    return open_.device.type == "cpu" and not bool(open_.any())
