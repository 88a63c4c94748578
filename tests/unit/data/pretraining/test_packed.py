"""Packed rows: every token once, documents apart, next to no padding, and batches a pure function of their number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from bertwright.corpus.shards import Shards
from bertwright.data.pretraining.batches import BatchSource
from bertwright.data.pretraining.packed import LEAST_TOKENS, plan_packed, plan_singles
from bertwright.data.pretraining.planned_rows import PlannedRows
from bertwright.data.pretraining.sentence_windows import Blocks, Text
from bertwright.objectives.masking import select_tokens

FIRST_ID = 10

MakeShards = Callable[..., Shards]


def text_of(shards: Shards) -> Text:
    return Blocks(shards, block_tokens=10**7, stretch_tokens=10**7).window(np.arange(1))


def used(rows: PlannedRows) -> np.ndarray:
    """Return the tokens of each row, special ones counted."""
    return np.add.reduceat(rows.lengths.astype(np.int64) + 2, rows.firsts[:-1])


def padding(rows: PlannedRows, length: int) -> float:
    return 1 - float(used(rows).sum()) / (len(rows) * length)


def drawn_from(kind: str) -> list[list[int]]:
    """Return documents: short ones of about 20 tokens, ones of over half a row of 128, or articles."""
    rng = np.random.default_rng(3)
    if kind == "short":
        return [[size] for size in np.clip(np.exp(rng.normal(2.9, 0.45, 5000)), 1, 60).astype(int).tolist()]
    if kind == "middling":
        return [[size - 30, 30] for size in rng.integers(70, 101, 1000).tolist()]
    return [rng.integers(5, 40, count).tolist() for count in rng.integers(20, 200, 100)]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("length", [16, 128, 512])
def test_every_token_is_in_one_row(
    make_shards: MakeShards, documents: list[list[int]], length: int, fill: bool
) -> None:
    rows = plan_packed(text_of(make_shards(documents)), length, np.random.default_rng(0), fill=fill)
    order = np.argsort(rows.starts)
    starts, ends = rows.starts[order], (rows.starts + rows.lengths)[order]
    assert starts[0] == 0
    assert (starts[1:] == ends[:-1]).all()
    assert set(np.cumsum([sum(document) for document in documents])) <= set(ends.tolist())
    assert int(rows.lengths.sum()) == sum(map(sum, documents))
    assert rows.lengths.min() >= 1
    assert used(rows).max() <= length
    assert (np.diff(rows.firsts) >= 1).all()


@pytest.mark.parametrize(
    ("kind", "fill", "length", "most"),
    [
        ("short", False, 128, 0.03),
        ("short", True, 128, 0.03),
        ("middling", True, 128, 0.02),
        ("articles", True, 128, 0.01),
        ("articles", True, 512, 0.01),
        ("articles", False, 512, 0.1),
    ],
)
def test_next_to_nothing_is_padding(make_shards: MakeShards, kind: str, fill: bool, length: int, most: float) -> None:
    rows = plan_packed(text_of(make_shards(drawn_from(kind))), length, np.random.default_rng(0), fill=fill)
    assert padding(rows, length) < most


def test_without_filling_pieces_are_those_of_single_rows(make_shards: MakeShards, documents: list[list[int]]) -> None:
    text = text_of(make_shards(documents))
    singles, packed = (plan(text, 64, np.random.default_rng(0)) for plan in (plan_singles, plan_packed))
    pieces = [sorted(zip(rows.starts.tolist(), rows.lengths.tolist(), strict=True)) for rows in (singles, packed)]
    assert pieces[0] == pieces[1]
    assert len(packed) < 0.9 * len(singles)


def test_filling_cuts_no_short_document_where_rows_are_full_anyway(make_shards: MakeShards) -> None:
    """Rows of 4 x 30 + 2 x 4 are full; where documents of 85 alone must be cut, no part has under 8 tokens."""
    text = text_of(make_shards([[28]] * 80 + [[2]] * 40))
    rows = plan_packed(text, 128, np.random.default_rng(0), fill=True)
    assert set(rows.lengths.tolist()) == {2, 28}
    assert padding(rows, 128) == 0
    cut = plan_packed(text_of(make_shards([[85]] * 200)), 128, np.random.default_rng(0), fill=True)
    assert cut.lengths.min() >= LEAST_TOKENS
    assert padding(cut, 128) < 0.02


def test_which_documents_meet_is_drawn(make_shards: MakeShards) -> None:
    text = text_of(make_shards(drawn_from("short")))
    first, again, other = (plan_packed(text, 128, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first.starts, again.starts)
    assert np.array_equal(first.firsts, again.firsts)
    followed = [set(zip(rows.starts[:-1].tolist(), rows.starts[1:].tolist(), strict=True)) for rows in (first, other)]
    assert len(followed[0] & followed[1]) < 0.01 * len(followed[0])
    before, after = first.lengths[:-1], first.lengths[1:]
    same_row = np.diff(np.repeat(np.arange(len(first)), np.diff(first.firsts))) == 0
    assert (before > after)[same_row].mean() == pytest.approx((before < after)[same_row].mean(), abs=0.05)


def source(shards: Shards, special: object, **options: object) -> BatchSource:
    settings: dict[str, object] = {"length": 64, "rows": 16, "pairs": False, "pack": True, "seed": 0}
    return BatchSource(shards, special=special, **(settings | options))  # type: ignore[arg-type]


@pytest.mark.parametrize("fill", [False, True])
@pytest.mark.parametrize("per_shard", [10**9, 37])
def test_batches_keep_documents_apart(
    make_shards: MakeShards, special: object, documents: list[list[int]], per_shard: int, fill: bool
) -> None:
    shards = make_shards(documents, per_shard=per_shard)
    owner = np.repeat(np.arange(len(documents)), [sum(document) for document in documents])
    starts = np.concatenate([shards.word_starts(number) for number in range(len(documents))])
    drawn = source(shards, special, fill=fill)
    for t in range(20):
        batch = drawn.draw(t)
        assert batch.documents is not None
        assert batch.next_label is None
        assert not batch.token_type_ids.any()
        assert torch.equal(batch.attention_mask, batch.documents > 0)
        assert torch.equal(batch.maskable, batch.input_ids >= FIRST_ID)
        for row in range(16):
            ids, own = batch.input_ids[row].numpy(), batch.documents[row].numpy()
            assert own[own > 0].tolist() == sorted(own[own > 0])
            assert (ids[own == 0] == 0).all()
            for number in range(1, own.max() + 1):
                places = np.flatnonzero(own == number)
                tokens = ids[places[1:-1]] - FIRST_ID
                assert (ids[places[0]], ids[places[-1]]) == (2, 3)
                assert (np.diff(tokens) == 1).all()
                assert len(np.unique(owner[tokens])) == 1
                words = batch.word_starts[row].numpy()[places]
                assert words[1]
                assert not words[[0, -1]].any()
                assert (words[2:-1] == starts[tokens[1:]]).all()


def test_a_batch_is_a_function_of_its_number(
    make_shards: MakeShards, special: object, documents: list[list[int]]
) -> None:
    shards = make_shards(documents, per_shard=150)
    caps = {"block_tokens": 4000, "window_tokens": 20_000, "stretch_tokens": 1000, "fill": True}
    walked = source(shards, special, **caps)
    batches = [walked.draw(t) for t in range(300)]
    assert walked.rows_per_epoch * 2 < 16 * 300
    direct = source(shards, special, **caps)
    for t in (299, 0, 100):
        again = direct.draw(t)
        assert torch.equal(again.input_ids, batches[t].input_ids)
        assert again.documents is not None
        assert torch.equal(again.documents, batches[t].documents)  # type: ignore[arg-type]
    assert not torch.equal(source(shards, special, seed=1, **caps).draw(0).input_ids, batches[0].input_ids)


def test_an_epoch_is_foretold(make_shards: MakeShards, special: object) -> None:
    shards = make_shards(drawn_from("short"))
    drawn = source(shards, special, length=128, fill=True)
    batches = [drawn.draw(t) for t in range(drawn.rows_per_epoch // 16)]
    assert sum(int(batch.maskable.sum()) for batch in batches) == pytest.approx(shards.token_count, rel=0.03)
    real = sum(int(batch.attention_mask.sum()) for batch in batches)
    assert real > 0.97 * 16 * 128 * (drawn.rows_per_epoch // 16)


def test_masks_hide_text_alone_and_words_of_one_document(make_shards: MakeShards, special: object) -> None:
    """Documents of one word of four tokens: whole words asked about never mix tokens of two documents."""
    batch = source(make_shards([[4]] * 400), special, length=128).draw(0)
    assert batch.documents is not None
    batch = replace(batch, word_starts=batch.word_starts & ~batch.maskable.roll(1, 1))
    for whole_word in (False, True):
        generator = torch.Generator().manual_seed(0)
        positions, weights = select_tokens(batch, rate=0.15, whole_word=whole_word, generator=generator)
        chosen = torch.zeros(batch.input_ids.shape, dtype=torch.bool).scatter_(1, positions, weights > 0)
        assert chosen.any(1).all()
        assert not (chosen & ~batch.maskable).any()
        counts = torch.zeros((16, 23)).scatter_add_(1, batch.documents, chosen.float())[:, 1:]
        assert not whole_word or set(counts.unique().tolist()) == {0.0, 4.0}


@pytest.mark.parametrize("kind", ["short", "middling", "articles"])
def test_how_many_documents_rows_hold_is_known_beforehand(make_shards: MakeShards, special: Any, kind: str) -> None:
    """At least as many as there are, and the same number for 20 batches out of 20: of 16 rows at a time, and of 3."""
    shards = make_shards(drawn_from(kind))
    for rows in (16, 3):
        source = BatchSource(shards, special=special, length=128, rows=rows, pairs=False, seed=1, fill=True, pack=True)
        found = set()
        for t in range(20):
            batch = source.draw(t)
            assert batch.documents is not None
            documents = torch.nn.functional.pad(batch.documents, (1, 0), value=-1)
            assert batch.layout.sequences >= int((documents[:, 1:] != documents[:, :-1]).sum())
            assert batch.layout.full == bool((batch.documents == 1).all())
            found.add(batch.layout.sequences)
        assert len(found) <= (1 if rows == 16 else 2)


def test_rows_are_full_where_none_has_padding(make_shards: MakeShards, special: Any) -> None:
    """Documents of 14 tokens fill rows of 16; of 13, none."""
    for size, full in ((14, True), (13, False)):
        shards = make_shards([[size]] * 50)
        for pack in (False, True):
            source = BatchSource(shards, special=special, length=16, rows=4, pairs=False, seed=1, pack=pack)
            assert source.draw(0).layout.full == full
            assert bool(source.draw(0).attention_mask.all()) == full
