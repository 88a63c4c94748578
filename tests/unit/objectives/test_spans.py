"""Spans of words: lengths as published, the tokens a plain loop would choose, words kept whole, runs hidden as one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy import stats
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from bertwright.objectives import ngram, span
from bertwright.objectives.masking import first_slots, masked_slots, runs_open, select_spans, select_tokens, spans_of
from bertwright.objectives.ngram import NgramMasking
from bertwright.objectives.span import SpanMasking
from bertwright.types import Batch

VOCAB, MASK, FIRST_ID = 1000, 4, 5
LEAST_P, POWER = 1e-4, 0.99
SIGMAS = 5.0
CLIPPED = (*span.SHARES[:-1], 5 * span.SHARES[-1])
"""Lengths that are clipped at 10, not cut off there: 0.2 (1 - 0.2)^(n - 1), and all that is left."""
UNIGRAMS_MORE_OFTEN = (0.42, 0.29, 0.19, 0.10)


def batch_of(rows: list[list[list[int]]], *, width: int, seed: int = 0) -> Batch:
    """Return rows [CLS] A [SEP] [CLS] B [SEP] ... of segments given by how many tokens each of their words has."""
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    maskable, words, attention = (torch.zeros(ids.shape, dtype=torch.bool) for _ in range(3))
    generator = torch.Generator().manual_seed(seed)
    for row, segments in enumerate(rows):
        at = 0
        for sizes in segments:
            ids[row, at], at = 2, at + 1
            begins = at + np.cumsum([0, *sizes])
            ids[row, at : begins[-1]] = torch.randint(FIRST_ID, VOCAB, (sum(sizes),), generator=generator)
            maskable[row, at : begins[-1]] = True
            words[row, begins[:-1]] = True
            ids[row, begins[-1]], at = 3, int(begins[-1]) + 1
        attention[row, :at] = True
    return Batch(ids, torch.zeros_like(ids), attention, maskable, words)


def mixed_rows(count: int, seed: int) -> list[list[list[int]]]:
    """Return segments, some short, of words of 1 to 6 tokens, at most 120 tokens a row with special ones."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        segments: list[list[int]] = []
        while (left := 120 - sum(sum(sizes) + 2 for sizes in segments)) > 8:
            sizes = rng.choice([1, 1, 1, 2, 3, 6], rng.integers(1, 40))
            sizes = sizes[sizes.cumsum() <= left - 2]
            segments += [sizes.tolist()] if len(sizes) else [[1]]
        rows.append(segments)
    return rows


def shares(lengths: Sequence[float]) -> np.ndarray:
    return np.array(lengths) / sum(lengths)


@pytest.mark.parametrize(
    ("lengths", "other"), [(span.SHARES, CLIPPED), (ngram.SHARES, UNIGRAMS_MORE_OFTEN)], ids=["span", "ngram"]
)
def test_lengths_are_as_published(lengths: tuple[float, ...], other: tuple[float, ...]) -> None:
    """The first three spans of each of two segments, 48,000 in all; the other lengths would be found out."""
    batch = batch_of([[[1] * 40, [1, 2] * 20]] * 400, width=128)
    generator, first, third = torch.Generator().manual_seed(1), [], []
    for _ in range(20):
        starts = batch.word_starts & batch.maskable
        spans = spans_of(starts, batch.maskable, lengths, generator)
        for segment in (slice(1, 41), slice(43, 103)):
            mine = torch.where(starts[:, segment], spans[:, segment], -1)
            begin = spans[:, segment.start, None]
            sizes = torch.stack([(mine == begin + number).sum(1) for number in range(3)], 1)
            first.append(sizes)
            third.append(sizes[:, [0, 2]])
    drawn = torch.cat(first).flatten().numpy()
    counts = np.bincount(drawn, minlength=len(lengths) + 1)[1:]
    assert len(drawn) == 48_000
    expected = shares(lengths)
    assert stats.chisquare(counts, len(drawn) * expected).pvalue > LEAST_P
    effect = len(drawn) * ((shares(other) - expected) ** 2 / expected).sum()
    degrees = len(lengths) - 1
    assert stats.ncx2.sf(stats.chi2.isf(LEAST_P, degrees), degrees, effect) > POWER
    pairs = torch.cat(third).numpy()
    assert abs(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic) < SIGMAS / np.sqrt(len(pairs))


def test_the_mean_span_has_3_8_words() -> None:
    assert shares(span.SHARES) @ np.arange(1, 11) == pytest.approx(3.8, abs=0.005)


@pytest.mark.parametrize("lengths", [span.SHARES, ngram.SHARES], ids=["span", "ngram"])
def test_tokens_are_those_that_a_plain_loop_chooses(lengths: tuple[float, ...]) -> None:
    """Segment by segment, span by span, word by word, from the same draws; words of any length, packed rows."""
    rows = mixed_rows(40, seed=2)
    batch = batch_of(rows, width=128)
    rate = 0.2
    positions, weights = select_spans(batch, rate=rate, lengths=lengths, generator=torch.Generator().manual_seed(3))
    again = torch.Generator().manual_seed(3)
    draws, keys = torch.rand((40, 128), generator=again), torch.rand((40, 128), generator=again)
    bounds = np.cumsum(lengths)[:-1] / sum(lengths)
    for row, segments in enumerate(rows):
        spans: list[tuple[float, list[list[int]]]] = []
        at = word = 0
        for sizes in segments:
            at, number, left = at + 1, word, 0
            for size in sizes:
                if not left:
                    left = 1 + int(np.searchsorted(bounds, float(draws[row, number]), side="right"))
                    spans.append((float(keys[row, number]), []))
                    number += 1
                spans[-1][1].append(list(range(at, at + size)))
                at, word, left = at + size, word + 1, left - 1
            at += 1
        budget = min(max(1, round(rate * at)), masked_slots(128, rate))
        expected: list[int] = []
        for _, words in sorted(spans):
            fits = np.cumsum([len(tokens) for tokens in words]) + len(expected) <= budget
            expected += [place for tokens, fit in zip(words, fits, strict=True) if fit for place in tokens]
            if not fits.all():
                break
        expected = expected or min(spans)[1][0][:budget]
        assert sorted(expected) == positions[row][weights[row] > 0].tolist()


def test_slots_are_fixed_words_whole_and_special_tokens_never_chosen() -> None:
    batch = batch_of(mixed_rows(64, seed=4), width=128)
    generator = torch.Generator().manual_seed(5)
    word = (batch.word_starts.cumsum(1) - 1).clamp(min=0)
    sizes = torch.zeros_like(word).scatter_add_(1, word, batch.maskable.long())
    for rate in (0.05, 0.15, 0.3, 0.5):
        positions, weights = select_spans(batch, rate=rate, lengths=span.SHARES, generator=generator)
        assert positions.shape == weights.shape == (64, masked_slots(128, rate))
        chosen = torch.zeros(batch.input_ids.shape).scatter_add_(1, positions, weights) > 0
        assert not (chosen & ~batch.maskable).any()
        mine = torch.zeros_like(word).scatter_add_(1, word, chosen.long())
        budget = (batch.attention_mask.sum(1) * rate).round()
        assert ((mine == 0) | (mine == sizes)).all()
        assert (weights.sum(1) <= budget).all()
        assert (weights.sum(1) > budget - 6).all()


def test_a_word_longer_than_the_budget_still_gives_one_mask_a_row() -> None:
    batch = batch_of([[[4, 4]]] * 200, width=16)
    positions, weights = select_spans(batch, rate=0.15, lengths=span.SHARES, generator=torch.Generator().manual_seed(6))
    assert (weights.sum(1) == round(0.15 * 10)).all()
    assert set(positions[weights > 0].tolist()) == {1, 2, 5, 6}


def test_no_loop_waits_for_the_device() -> None:
    """With tensors that have no values, whatever asks for one fails: whole words in random order do, spans do not."""
    real = batch_of([[[1, 2] * 20]] * 4, width=64)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        given = (real.input_ids, real.token_type_ids, real.attention_mask, real.maskable, real.word_starts)
        batch = Batch(*(mode.from_tensor(tensor) for tensor in given))
        for objective in (SpanMasking(VOCAB, MASK), NgramMasking(VOCAB, MASK)):
            assert objective.corrupt(batch, torch.Generator(), 0.0).masked_positions.shape == (4, 10)
        with pytest.raises(DataDependentOutputException):
            select_tokens(batch, rate=0.15, whole_word=True, generator=torch.Generator())


def test_runs_are_hidden_as_one_and_in_the_shares_of_2018() -> None:
    batch = batch_of([[[1] * 60, [1] * 60]] * 200, width=128)
    generator, kinds, mixed = torch.Generator().manual_seed(7), np.zeros(3), 0
    for _ in range(40):
        example = SpanMasking(VOCAB, MASK).corrupt(batch, generator, 0.0)
        shown = example.input_ids.gather(1, example.masked_positions)
        hidden = torch.where(shown == MASK, 0, torch.where(shown == example.masked_labels, 2, 1))
        run = first_slots(runs_open(example.masked_positions))
        used = example.masked_weights > 0
        mixed += int((hidden != hidden.gather(1, run))[used].sum())
        opens = used & runs_open(example.masked_positions)
        kinds += np.bincount(hidden[opens].numpy(), minlength=3)
        assert (example.masked_labels == batch.input_ids.gather(1, example.masked_positions))[used].all()
    total = kinds.sum()
    assert total > 20_000
    expected = np.array([0.8, 0.1, 0.1])
    assert (np.abs(kinds - total * expected) < SIGMAS * np.sqrt(total * expected * (1 - expected))).all()
    assert mixed < total * 10 / VOCAB  # random tokens that happen to be [MASK] or the true one


def test_masks_repeat_with_the_generator_and_differ_between_draws() -> None:
    batch = batch_of(mixed_rows(8, seed=8), width=128)
    generator = torch.Generator().manual_seed(9)
    first, second = (SpanMasking(VOCAB, MASK).corrupt(batch, generator) for _ in range(2))
    again = SpanMasking(VOCAB, MASK).corrupt(batch, torch.Generator().manual_seed(9))
    assert torch.equal(first.input_ids, again.input_ids)
    assert torch.equal(first.masked_positions, again.masked_positions)
    assert not torch.equal(first.masked_positions, second.masked_positions)
