"""Batches: a pure function of (fingerprint, seed, t), laid out as promised, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.sentence_windows import Blocks
from bertwright.errors import DataError
from bertwright.types import Batch

FIRST_ID = 10

MakeShards = Callable[..., Shards]


def source(shards: Shards, special: object, **options: object) -> BatchSource:
    settings: dict[str, object] = {"length": 64, "rows": 16, "pairs": True, "seed": 0}
    return BatchSource(shards, special=special, **(settings | options))  # type: ignore[arg-type]


def same(one: Batch, other: Batch) -> bool:
    return all(
        torch.equal(getattr(one, name), getattr(other, name))
        for name in ("input_ids", "token_type_ids", "attention_mask", "maskable", "word_starts")
    ) and (one.next_label is None or torch.equal(one.next_label, other.next_label))  # type: ignore[arg-type]


def segments(batch: Batch, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the tokens of A and of B, counted over the split, and check everything around them."""
    ids, types = batch.input_ids[row].numpy(), batch.token_type_ids[row].numpy()
    used = int(batch.attention_mask[row].sum())
    assert batch.attention_mask[row, :used].all()
    assert ids[0] == 2
    assert ids[used - 1] == 3
    assert (ids[used:] == 0).all()
    separators = np.flatnonzero(ids == 3)
    first = int(separators[0])
    expected_types = np.zeros(len(ids), dtype=int)
    expected_types[first + 1 : used] = 1
    assert (types == expected_types).all()
    assert (batch.maskable[row].numpy() == (ids >= FIRST_ID)).all()
    return ids[1:first] - FIRST_ID, ids[first + 1 : used - 1] - FIRST_ID


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("per_shard", [10**9, 37])
def test_rows_are_runs_of_the_corpus(
    make_shards: MakeShards, special: object, documents: list[list[int]], pairs: bool, per_shard: int
) -> None:
    shards = make_shards(documents, per_shard=per_shard)
    owner = np.repeat(np.arange(len(documents)), [sum(document) for document in documents])
    starts = np.concatenate([shards.word_starts(number) for number in range(len(documents))])
    drawn = source(shards, special, pairs=pairs)
    for t in range(40):
        batch = drawn.draw(t)
        for row in range(16):
            a, b = segments(batch, row)
            assert len(a) > 0
            assert (len(b) > 0) == pairs
            assert len(a) + len(b) <= 64 - (3 if pairs else 2)
            for segment, at in ((a, 1), (b, len(a) + 2)):
                if len(segment):
                    assert (np.diff(segment) == 1).all()
                    assert len(np.unique(owner[segment])) == 1
                    words = batch.word_starts[row, at : at + len(segment)].numpy()
                    assert words[0]
                    assert (words[1:] == starts[segment[1:]]).all()
            if pairs:
                assert batch.next_label is not None
                other = bool(owner[a[0]] != owner[b[0]])
                assert other == bool(batch.next_label[row])
                assert other or b[0] > a[-1]
        assert int(batch.word_starts.sum()) <= int(batch.maskable.sum())


@pytest.mark.parametrize("pairs", [True, False])
def test_batch_1000_is_the_same_drawn_directly_and_after_999_others(
    make_shards: MakeShards, special: object, documents: list[list[int]], pairs: bool
) -> None:
    shards = make_shards(documents, per_shard=150)
    caps = {"block_tokens": 4000, "window_tokens": 20_000, "stretch_tokens": 1000, "pairs": pairs}
    walked = source(shards, special, **caps)
    for t in range(1000):
        walked.draw(t)
    assert walked.rows_per_epoch * 3 < 16 * 1000
    direct = source(shards, special, **caps)
    assert same(direct.draw(1000), walked.draw(1000))
    assert same(direct.draw(0), walked.draw(0))


def test_seed_epoch_and_fingerprint_each_change_the_draw(
    make_shards: MakeShards, special: object, documents: list[list[int]]
) -> None:
    shards = make_shards(documents)
    drawn = source(shards, special)
    assert not same(drawn.draw(3), source(shards, special, seed=1).draw(3))
    assert not same(drawn.draw(3), source(make_shards(documents, fingerprint="other"), special).draw(3))
    first, second = drawn.plan(0, 0), drawn.plan(1, 0)
    assert len(first) == len(second) == drawn.rows_per_epoch
    assert sorted(zip(first.starts, first.lengths, strict=True)) != sorted(
        zip(second.starts, second.lengths, strict=True)
    )


def test_each_window_of_an_epoch_is_drawn_from_its_own_stream(make_shards: MakeShards, special: object) -> None:
    drawn = source(make_shards([[9] * 12] * 400), special, block_tokens=10_800, window_tokens=21_600)
    assert drawn.window_count == 2
    first, second = (drawn.plan(0, window).lengths[::2] for window in range(2))
    assert len(first) == len(second)
    assert (first == second).mean() < 0.5


def test_batches_run_on_over_windows_and_epochs(
    make_shards: MakeShards, special: object, documents: list[list[int]]
) -> None:
    drawn = source(make_shards(documents), special, rows=50, block_tokens=4000, window_tokens=20_000)
    planned: list[int] = []
    window = 0
    while len(planned) < 2 * drawn.rows_per_epoch:
        epoch, within = divmod(window, 5)
        planned += drawn.plan(epoch, within).starts[::2].tolist()
        window += 1
    assert len(planned) == 2 * drawn.rows_per_epoch
    count = len(planned) // 50
    seen = [int(ids[1]) - FIRST_ID for t in range(count) for ids in drawn.draw(t).input_ids]
    assert seen == planned[: 50 * count]


def test_a_batch_larger_than_the_corpus_goes_on_with_the_next_epochs(make_shards: MakeShards, special: object) -> None:
    drawn = source(make_shards([[5, 6], [7, 8]]), special, rows=32)
    assert drawn.rows_per_epoch < 8
    assert drawn.draw(5).input_ids.shape == (32, 64)


@pytest.mark.parametrize("pairs", [True, False])
def test_windows_stay_under_their_cap_and_rows_are_foretold(
    make_shards: MakeShards, special: object, documents: list[list[int]], pairs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Blocks.window

    def spy(self: Blocks, blocks: np.ndarray) -> object:
        text = original(self, blocks)
        sizes.append(int(text.cumulative[-1]))
        return text

    monkeypatch.setattr(Blocks, "window", spy)
    shards = make_shards(documents * 4)
    drawn = source(shards, special, pairs=pairs, block_tokens=4000, window_tokens=40_000, stretch_tokens=1000)
    total = sum(len(drawn.plan(epoch, window)) for epoch in range(2) for window in range(drawn.window_count))
    assert total == 2 * drawn.rows_per_epoch
    assert drawn.window_count == round(shards.token_count / 40_000)
    assert max(sizes) < 1.25 * 40_000
    whole = source(shards, special, pairs=pairs)
    assert drawn.rows_per_epoch == pytest.approx(whole.rows_per_epoch, rel=0.1)


@pytest.mark.parametrize(
    ("corpus", "options", "message"),
    [
        ([[5, 6, 7]], {}, r"document.*--document-boundary blank.*--objective.next_sentence false"),
        ([[5], [6], [7]], {}, r"random.*--objective.next_sentence false"),
        ([[5, 6], [7]], {"length": 6}, "no room"),
        (
            [*[[20]] * 100, [5, 6]],
            {"ordered": True, "block_tokens": 100, "window_tokens": 200},
            "two sentences in a row",
        ),
    ],
)
def test_poor_corpora_are_refused_at_once(
    make_shards: MakeShards, special: object, corpus: list[list[int]], options: dict[str, object], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        source(make_shards(corpus), special, **options)


def test_a_split_without_text_is_refused(special: object) -> None:
    for pairs in (True, False):
        with pytest.raises(DataError, match=r"tokens|document"):
            source(Shards([], fingerprint="empty"), special, pairs=pairs)


def test_one_document_is_enough_for_single_segments(make_shards: MakeShards, special: object) -> None:
    batch = source(make_shards([[5, 6, 7]]), special, pairs=False).draw(0)
    assert batch.next_label is None
    assert int(batch.maskable.sum()) == 16 * 18
