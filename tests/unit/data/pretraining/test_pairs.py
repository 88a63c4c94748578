"""Sentence pairs: the distributions of the 2018 data builder, against a plain builder written here, on 10^5 pairs."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.pairs import plan_ordered_pairs, plan_pairs, truncation, walk, why_no_pairs
from bertwright.data.pretraining.planned_rows import PlannedRows, join_rows
from bertwright.data.pretraining.sentence_windows import Blocks, Text

MakeShards = Callable[..., Shards]
LENGTH = 64
PASSES = 60
ROOM = LENGTH - 3
SIGMAS = 5.0
LEAST_P = 1e-4


def reference_pairs(documents: list[list[int]], rng: random.Random) -> list[tuple[int, int, int]]:
    """Return (tokens of A, tokens of B, label) of one pass, sentence by sentence and token by token."""
    pairs = []
    for number, document in enumerate(documents):
        at, chunk = 0, []
        target = rng.randint(2, ROOM) if rng.random() < 0.1 else ROOM
        while at < len(document):
            chunk.append(document[at])
            at += 1
            if sum(chunk) < target and at < len(document):
                continue
            a_end = rng.randint(1, len(chunk) - 1) if len(chunk) > 1 else 1
            a, b, label = sum(chunk[:a_end]), sum(chunk[a_end:]), 0
            if len(chunk) == 1 or rng.random() < 0.5:
                other = rng.choice([n for n in range(len(documents)) if n != number])
                b, label = 0, 1
                for sentence in documents[other][rng.randrange(len(documents[other])) :]:
                    b += sentence
                    if b >= target - a:
                        break
                at -= len(chunk) - a_end
            while a + b > ROOM:
                a, b = (a - 1, b) if a > b else (a, b - 1)
            pairs.append((a, b, label))
            chunk = []
            target = rng.randint(2, ROOM) if rng.random() < 0.1 else ROOM
    return pairs


@pytest.fixture
def text(make_shards: MakeShards, documents: list[list[int]]) -> Text:
    return Blocks(make_shards(documents), block_tokens=10**7, stretch_tokens=10**7).window(np.arange(1))


@pytest.fixture
def pairs(text: Text) -> PlannedRows:
    """Return 10^5 pairs or more, pass after pass."""
    rng = np.random.default_rng(2)
    passes = [plan_pairs(text, LENGTH, rng) for _ in range(PASSES)]
    rows = join_rows(passes)
    assert len(rows) >= 1e5
    return rows


def within(count: float, total: int, share: float) -> bool:
    """Is a count of independent draws within 5 sigmas of its expectation?"""
    return bool(abs(count - total * share) <= SIGMAS * np.sqrt(total * share * (1 - share)))


def same_distribution(one: np.ndarray, other: np.ndarray) -> float:
    """Return the p value of a chi-squared test that two samples of counts come from one distribution."""
    edges = np.unique(np.quantile(np.concatenate([one, other]), np.linspace(0, 1, 25)))
    table = np.stack([np.histogram(sample, bins=edges)[0] for sample in (one, other)])
    return float(stats.chi2_contingency(table[:, table.sum(0) > 0]).pvalue)


def test_lengths_and_labels_follow_the_reference(pairs: PlannedRows, documents: list[list[int]]) -> None:
    rng = random.Random(3)
    expected = np.array([pair for _ in range(PASSES) for pair in reference_pairs(documents, rng)])
    ours = np.column_stack([pairs.lengths.reshape(-1, 2), pairs.labels]).astype(int)
    assert len(ours) == pytest.approx(len(expected), rel=0.01)
    for label in (0, 1):
        one, other = ours[ours[:, 2] == label], expected[expected[:, 2] == label]
        for view in ((1, 0), (0, 1), (1, 1), (1, -1)):
            assert same_distribution(one[:, :2] @ view, other[:, :2] @ view) > LEAST_P
    counts = [[int((sample[:, 2] == label).sum()) for label in (0, 1)] for sample in (ours, expected)]
    assert stats.chi2_contingency(counts).pvalue > LEAST_P


def test_half_of_the_chunks_of_two_or_more_sentences_are_random(text: Text) -> None:
    rng = np.random.default_rng(4)
    sizes, coins, targets = [], [], []
    for _ in range(60):
        chunks = walk(text, LENGTH, rng)
        sizes.append(chunks.stops - chunks.starts)
        coins.append(chunks.random)
        targets.append(chunks.targets)
    size, coin, target = (np.concatenate(parts) for parts in (sizes, coins, targets))
    assert (size > 1).sum() >= 1e5
    assert coin[size == 1].all()
    assert within(coin[size > 1].sum(), int((size > 1).sum()), 0.5)
    short = target[target < ROOM]
    assert within(len(short), len(target), 0.1 * (ROOM - 2) / (ROOM - 1))
    assert stats.chisquare(np.bincount(short, minlength=ROOM)[2:]).pvalue > LEAST_P
    assert short.min() == 2


def test_random_segments_come_from_every_other_document_alike(make_shards: MakeShards) -> None:
    lengths = [[20, 20], [20, 20, 20], [20], [20, 20, 20, 20], [20, 20]] * 10
    shards = make_shards(lengths)
    text = Blocks(shards, block_tokens=10**7, stretch_tokens=10**7).window(np.arange(1))
    rng = np.random.default_rng(5)
    rows = join_rows([plan_pairs(text, LENGTH, rng) for _ in range(1500)])
    assert len(rows) >= 1e5
    owner = np.repeat(np.arange(50), [sum(document) for document in lengths])
    a, b = owner[rows.starts.reshape(-1, 2)].T
    assert ((a != b) == (rows.labels == 1)).all()
    for own in range(50):
        others = Counter(b[(a == own) & (rows.labels == 1)].tolist())
        assert len(others) == 49
        assert stats.chisquare(list(others.values())).pvalue > LEAST_P


def test_truncation_equals_dropping_one_token_at_a_time() -> None:
    rng = np.random.default_rng(6)
    a_lengths, b_lengths = rng.integers(1, 90, (2, 20_000))
    a_drop, b_drop = truncation(a_lengths, b_lengths, ROOM)
    for a, b, a_lost, b_lost in zip(a_lengths, b_lengths, a_drop, b_drop, strict=True):
        left, right = int(a), int(b)
        while left + right > ROOM:
            left, right = (left - 1, right) if left > right else (left, right - 1)
        assert (a - a_lost, b - b_lost) == (left, right)


def test_truncation_takes_from_front_and_back_alike(make_shards: MakeShards) -> None:
    text = Blocks(make_shards([[100, 100]] * 1000), block_tokens=10**7, stretch_tokens=10**7).window(np.arange(1))
    rng = np.random.default_rng(7)
    rows = join_rows([plan_pairs(text, LENGTH, rng) for _ in range(3)])
    fronts = int((rows.starts[::2] % 100).sum())
    dropped = int((100 - rows.lengths[::2]).sum())
    assert dropped >= 1e5
    assert within(fronts, dropped, 0.5)


def test_every_sentence_is_seen_about_once_a_pass(text: Text, documents: list[list[int]]) -> None:
    rng = np.random.default_rng(8)
    total = int(text.cumulative[-1])
    seen, passes = np.zeros(total), 60
    for _ in range(passes):
        chunks = walk(text, LENGTH, rng)
        stops = np.where(chunks.random, chunks.middles, chunks.stops)
        for first, stop in zip(text.cumulative[chunks.starts], text.cumulative[stops], strict=True):
            seen[first:stop] += 1
    assert (seen == passes).all()


def test_reasons_name_the_way_out(make_shards: MakeShards) -> None:
    assert why_no_pairs(make_shards([[3, 4], [5]])) is None
    assert why_no_pairs(make_shards([[3, 4, 5]]), ordered=True) is None
    assert "two or more sentences" in str(why_no_pairs(make_shards([[3], [4]]), ordered=True))
    assert "second document" in str(why_no_pairs(make_shards([[3, 4, 5]])))
    assert "random" in str(why_no_pairs(make_shards([[3], [4], [5]])))


def test_ordered_pairs_follow_one_another_and_half_of_them_are_swapped(make_shards: MakeShards) -> None:
    """A document of one sentence makes no pair; what is cut to fit leaves both segments in the text's order."""
    text = Blocks(make_shards([[9, 8, 30], [20], [100, 100]] * 400), block_tokens=10**7, stretch_tokens=10**7).window(
        np.arange(1)
    )
    rng = np.random.default_rng(9)
    rows = join_rows([plan_ordered_pairs(text, LENGTH, rng) for _ in range(4)])
    starts, lengths = rows.starts.reshape(-1, 2), rows.lengths.reshape(-1, 2)
    document = np.searchsorted(np.cumsum([47, 20, 200] * 400), starts, side="right")
    assert (document[:, 0] == document[:, 1]).all()
    assert not (document % 3 == 1).any()
    assert ((starts[:, 0] > starts[:, 1]) == (rows.labels == 1)).all()
    assert (lengths.sum(1) <= LENGTH - 3).all()
    assert (lengths > 0).all()
    assert within(int(rows.labels.sum()), len(rows), 0.5)
    whole = lengths.sum(1) < LENGTH - 3
    first, second = np.sort(starts[whole], 1).T
    ahead = np.where(rows.labels[whole] == 1, lengths[whole, 1], lengths[whole, 0])
    assert (first + ahead == second).all()
