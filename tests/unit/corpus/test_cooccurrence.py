"""Directed counts of neighbours against counting by hand; the table in DATA: kept, read, added up, refused."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from bertwright.corpus import cooccurrence
from bertwright.corpus.cooccurrence import (
    DISTANCES,
    NEIGHBOURS,
    NeighbourCounts,
    can_merge,
    count_neighbours,
    load_or_count,
    merge_neighbours,
    most_bytes,
    read_neighbours,
    write_neighbours,
)
from bertwright.corpus.shards import Shards
from bertwright.errors import DataError, ReadOnlyError

VOCAB = 40
ShardsOf = Callable[..., Shards]


def some_documents(*, seed: int = 3, below: int = VOCAB) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.zipf(1.3, size) % below for size in (50, 7, 6000, 2, 60)]


def by_hand(documents: list[np.ndarray]) -> dict[int, Counter[tuple[int, int]]]:
    """Return how often (word i, word j) stand each distance apart, by the distance."""
    found: dict[int, Counter[tuple[int, int]]] = {distance: Counter() for distance in DISTANCES}
    for document in documents:
        for distance, counter in found.items():
            counter.update(zip(document[:-distance].tolist(), document[distance:].tolist(), strict=True))
    return found


def as_pairs(counts: NeighbourCounts) -> dict[int, dict[tuple[int, int], int]]:
    pairs = {}
    for distance, table in counts.tables.items():
        coordinates = table.tocoo()
        rows, columns = counts.words[coordinates.row].tolist(), counts.words[coordinates.col].tolist()
        pairs[distance] = dict(zip(zip(rows, columns, strict=True), coordinates.data.tolist(), strict=True))
    return pairs


def same(one: NeighbourCounts, other: NeighbourCounts) -> bool:
    arrays = [
        [counts.words, counts.frequencies]
        + [part for found in counts.distances.values() for part in (found.row_starts, found.columns, found.counts)]
        for counts in (one, other)
    ]
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in zip(*arrays, strict=True))


def test_counts_are_directed_and_those_counted_by_hand(tmp_path: Path, shards_of: ShardsOf) -> None:
    documents = some_documents()
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    assert as_pairs(counts) == by_hand(documents)
    assert counts.frequencies.tolist() == np.bincount(np.concatenate(documents), minlength=VOCAB).tolist()
    assert counts.words.tolist() == np.flatnonzero(counts.frequencies).tolist()
    assert max(counts.distances[1].counts) > 255  # so that the list of large counts is used below


def test_few_pairs_are_sorted_to_the_same_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    shards = shards_of(tmp_path, some_documents())
    monkeypatch.setattr(cooccurrence, "FEW", 1e9)
    in_a_table = count_neighbours(shards, VOCAB)
    monkeypatch.setattr(cooccurrence, "FEW", 0)
    assert same(count_neighbours(shards, VOCAB), in_a_table)


def test_rare_words_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf) -> None:
    monkeypatch.setattr(cooccurrence, "MOST_WORDS", 10)
    documents = some_documents()
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    words = set(counts.words.tolist())
    assert len(words) == 10
    assert min(counts.frequencies[list(words)]) >= np.sort(counts.frequencies)[-10]
    for distance, expected in by_hand(documents).items():
        assert as_pairs(counts)[distance] == {pair: n for pair, n in expected.items() if words.issuperset(pair)}


def test_tokens_beyond_the_most_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    """The limit falls within the second shard; frequencies are those of the whole split all the same."""
    monkeypatch.setattr(cooccurrence, "MOST_TOKENS", 1000)
    documents = some_documents()
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    assert as_pairs(counts) == by_hand([*documents[:2], documents[2][:943]])
    assert counts.frequencies.sum() == sum(map(len, documents))


def test_shards_beyond_the_most_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    """Where the frequencies are known, what is past the limit is not looked at: the corpus may be terabytes."""
    documents = some_documents()
    monkeypatch.setattr(cooccurrence, "MOST_TOKENS", sum(map(len, documents[:2])))
    shards = shards_of(tmp_path, documents)
    expected = count_neighbours(shards, VOCAB)
    assert [len(shard.tokens) for shard in shards.shards] == [57, 6062]
    shards.shards[1:] = [None]
    assert same(count_neighbours(shards, VOCAB, frequencies=expected.frequencies), expected)


def test_pairs_across_chunks_alone_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    monkeypatch.setattr(cooccurrence, "CHUNK", 100)
    documents = [np.arange(30), np.arange(5), np.tile(np.arange(20), 15)]
    counts = count_neighbours(shards_of(tmp_path, documents), VOCAB)
    cut = [*documents[:2], *np.split(documents[2], [100, 200])]
    assert as_pairs(counts) == by_hand(cut)


def test_the_table_is_kept_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf) -> None:
    shards = shards_of(tmp_path, some_documents())
    counted = load_or_count(tmp_path, shards, VOCAB)
    written = (tmp_path / NEIGHBOURS).read_bytes()
    monkeypatch.setattr(cooccurrence, "count_neighbours", lambda *_: pytest.fail("counted again"))
    assert same(load_or_count(tmp_path, shards, VOCAB), counted)
    write_neighbours(tmp_path, counted, fingerprint="test")
    assert (tmp_path / NEIGHBOURS).read_bytes() == written


def test_a_table_of_other_shards_is_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shards_of: ShardsOf
) -> None:
    load_or_count(tmp_path, shards_of(tmp_path, some_documents()), VOCAB)
    documents = some_documents(seed=4)
    counts = load_or_count(tmp_path, shards_of(tmp_path, documents, fingerprint="another"), VOCAB)
    assert as_pairs(counts) == by_hand(documents)
    assert "other shards" in capsys.readouterr().err
    assert same(read_neighbours(tmp_path, fingerprint="another", vocab_size=VOCAB), counts)


def test_a_folder_that_cannot_be_written_gives_the_same_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shards_of: ShardsOf
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ReadOnlyError("nothing can be written there")

    documents = some_documents()
    monkeypatch.setattr(cooccurrence, "write_neighbours", refuse)
    counts = load_or_count(tmp_path, shards_of(tmp_path, documents), VOCAB)
    assert as_pairs(counts) == by_hand(documents)
    assert not (tmp_path / NEIGHBOURS).exists()
    assert "be written" in capsys.readouterr().err


def test_tables_of_several_folders_add_up(tmp_path: Path, shards_of: ShardsOf) -> None:
    """Over words that occur in one of them alone, too: as if all had been one split."""
    first, second = some_documents(below=25), [document + 15 for document in some_documents(seed=5, below=25)]
    splits = [shards_of(tmp_path / name, documents) for name, documents in (("a", first), ("b", second))]
    merged = merge_neighbours([count_neighbours(split, VOCAB) for split in splits])
    together = Shards([shard for split in splits for shard in split.shards], fingerprint="")
    assert same(merged, count_neighbours(together, VOCAB))
    assert can_merge(splits, VOCAB)
    assert not can_merge(splits, cooccurrence.MOST_WORDS + 1)


def test_tables_that_left_something_out_are_not_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shards_of: ShardsOf
) -> None:
    monkeypatch.setattr(cooccurrence, "MOST_TOKENS", 10_000)
    splits = [shards_of(tmp_path / name, some_documents()) for name in ("a", "b")]
    assert not can_merge(splits, VOCAB)


def rewrite(path: Path, *, head: dict[str, object] | None = None, **changes: np.ndarray) -> None:
    """Write the table again with other tensors and a checksum that fits them: what a hostile file would have."""
    tensors = load_file(path)
    with safe_open(path, framework="numpy") as file:
        content = json.loads(file.metadata()["bertwright"])
    for name, value in changes.items():
        tensors[name.replace("__", ".")] = value
    content["xxh3_128"] = cooccurrence._digest(tensors)
    save_file(tensors, path, metadata={"bertwright": json.dumps(content | (head or {}))})


@pytest.fixture
def table(tmp_path: Path, shards_of: ShardsOf) -> Path:
    load_or_count(tmp_path, shards_of(tmp_path, some_documents()), VOCAB)
    return tmp_path / NEIGHBOURS


def refused(table: Path) -> str:
    with pytest.raises(DataError) as raised:
        read_neighbours(table.parent, fingerprint="test", vocab_size=VOCAB)
    return str(raised.value)


def test_any_bit_that_is_flipped_is_found(table: Path) -> None:
    whole = table.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.choice(len(whole), 200, replace=False).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(rng.integers(0, 8))
        table.write_bytes(damaged)
        try:
            counts = read_neighbours(table.parent, fingerprint="test", vocab_size=VOCAB)
        except DataError:
            continue
        table.write_bytes(whole)  # a blank of the head that is now a tab: the numbers must be the same
        assert same(counts, read_neighbours(table.parent, fingerprint="test", vocab_size=VOCAB))


def test_a_file_cut_short_or_of_something_else_is_refused(table: Path) -> None:
    whole = table.read_bytes()
    for content in (b"", whole[:7], whole[:100], whole[:-1], b"x" * 500):
        table.write_bytes(content)
        assert NEIGHBOURS in refused(table)


def test_a_folder_in_the_place_of_the_table_is_no_table(tmp_path: Path) -> None:
    (tmp_path / NEIGHBOURS).mkdir()
    with pytest.raises(DataError):
        read_neighbours(tmp_path, fingerprint="test", vocab_size=VOCAB)


@pytest.mark.parametrize(
    "head",
    [{"format": 2}, {"format": None}, {"fingerprint": "another"}, {"xxh3_128": "0" * 32}, {"xxh3_128": None}],
    ids=str,
)
def test_other_heads_are_refused(table: Path, head: dict[str, object]) -> None:
    rewrite(table, head=head)
    refused(table)


@pytest.mark.parametrize("name", ["words", "frequencies", "row_starts__2", "columns__2", "counts__2", "large__1"])
def test_tensors_of_other_types_sizes_or_numbers_are_refused(table: Path, name: str, tmp_path: Path) -> None:
    good = shutil.copyfile(table, tmp_path / "good")
    value = load_file(good)[name.replace("__", ".")]
    high = value.copy()
    high[len(high) // 2] = np.iinfo(value.dtype).max
    falling = value[::-1].copy()
    zero = np.zeros_like(value)
    kinds = {"type": value.astype(np.float32), "shape": value[None], "short": value[:-1], "high": high, "zero": zero}
    if name not in ("frequencies", "counts__2", "large__1"):
        kinds["falling"] = falling
    if name == "frequencies":
        kinds["negative"] = -high
        del kinds["zero"]
    if name in ("words", "row_starts__2"):  # their differences wrap around to numbers above zero
        kinds["wrapping"] = value.copy()
        kinds["wrapping"][1:4] = [2**63 - 1, -(2**63), -1]
    for kind, changed in kinds.items():
        shutil.copyfile(good, table)
        rewrite(table, **{name: changed})
        assert refused(table), kind


def test_a_table_of_another_vocabulary_is_refused(table: Path) -> None:
    with pytest.raises(DataError):
        read_neighbours(table.parent, fingerprint="test", vocab_size=VOCAB + 1)


def test_the_estimate_of_its_size_is_not_exceeded(table: Path) -> None:
    assert table.stat().st_size <= most_bytes(3 * sum(map(len, some_documents())))
