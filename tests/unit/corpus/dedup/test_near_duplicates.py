"""Near-duplicates: copies are found and others left, whatever the batches; saved and taken up again; damage is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.dedup.hashes import shingles
from bertwright.corpus.dedup.near_duplicates import BANDS, SKETCH, NearDuplicates, rows_of, signatures
from bertwright.errors import CorpusError


def _words(draw: np.random.Generator, count: int) -> list[str]:
    return [f"w{number}" for number in draw.integers(0, 20_000, size=count)]


def _edited(words: list[str], edits: int, draw: np.random.Generator) -> list[str]:
    edited = list(words)
    for place in draw.choice(len(words), size=edits, replace=False):
        edited[place] = f"new{draw.integers(0, 10**9)}"
    return edited


def _similarity(left: str, right: str) -> float:
    one, other = (set(shingles(pa.array([text]))[0].tolist()) for text in (left, right))
    return len(one & other) / len(one | other)


@pytest.fixture(scope="module")
def planted() -> tuple[list[str], list[int], list[float]]:
    """300 documents of 30 to 1,500 words, then an edited copy of each: whose, and how similar in truth."""
    draw = np.random.default_rng(3)
    originals = [_words(draw, int(count)) for count in np.geomspace(30, 1500, 300)]
    copies = [_edited(words, int(draw.uniform(0, 0.05) * len(words)), draw) for words in originals]
    texts = [" ".join(words) for words in originals + copies]
    labels = [_similarity(texts[i], texts[300 + i]) for i in range(300)]
    return texts, list(range(300)), labels


def test_copies_are_found_and_others_left(planted: tuple[list[str], list[int], list[float]], tmp_path: Path) -> None:
    texts, _, labels = planted
    near = NearDuplicates(tmp_path / "seen" / "near", {}, 0.8)
    first = near.find_new(signatures(pa.array(texts), 0.8))
    assert first[:300].all()
    close = np.array(labels) >= 0.8
    assert 100 < close.sum() < 250
    small = np.array([len(text.split()) for text in texts[:300]]) < SKETCH - 50
    assert not (~first[300:] & ~close & small).any()  # exact where all shingles are kept
    assert (~first[300:] & close).sum() >= 0.97 * close.sum()
    assert (~first[300:] & ~close).sum() <= 0.05 * (~first[300:]).sum()  # all of them within 0.02 of the threshold
    assert min(np.array(labels)[~first[300:]]) > 0.74


def test_the_answer_does_not_depend_on_batches_or_restarts(
    planted: tuple[list[str], list[int], list[float]], tmp_path: Path
) -> None:
    texts = [text for pair in zip(planted[0][:300], planted[0][300:], strict=True) for text in pair]
    whole = NearDuplicates(tmp_path / "a" / "near", {}, 0.8).find_new(signatures(pa.array(texts), 0.8))
    near, parts = NearDuplicates(tmp_path / "b" / "near", {}, 0.8), []
    for start in range(0, len(texts), 70):
        saved = near.save()
        near.forget_previous()
        near.find_new(signatures(pa.array(texts[start : start + 35]), 0.8))  # lost: the process ends here
        near = NearDuplicates(tmp_path / "b" / "near", saved, 0.8)
        parts.append(near.find_new(signatures(pa.array(texts[start : start + 70]), 0.8)))
    assert np.concatenate(parts).tolist() == whole.tolist()


def test_documents_without_words_and_short_ones(tmp_path: Path) -> None:
    near = NearDuplicates(tmp_path / "seen" / "near", {}, 0.8)
    texts = pa.array(["...", "!!!", "one two", "One, two.", "one", "two three"])
    assert near.find_new(signatures(texts, 0.8)).tolist() == [True, True, True, False, True, True]
    assert near.find_new(signatures(texts[:0], 0.8)).tolist() == []
    assert near.find_new(signatures(texts[:2], 0.8)).tolist() == [True, True]


def test_rows_leave_nearly_all_pairs_at_the_threshold_candidates() -> None:
    assert [rows_of(threshold) for threshold in (0.5, 0.7, 0.8, 0.9)] == [2, 4, 6, 13]
    for threshold in np.linspace(0.5, 0.99, 50):
        rows = rows_of(float(threshold))
        assert 1 - (1 - threshold**rows) ** BANDS >= 0.985


def test_damage_is_told(tmp_path: Path) -> None:
    near = NearDuplicates(tmp_path / "seen" / "near", {}, 0.8)
    near.find_new(signatures(pa.array(["one two three"]), 0.8))
    saved = near.save()
    (tmp_path / "seen" / "near" / "hashes.u32").write_bytes(b"")
    with pytest.raises(CorpusError, match="cut short"):
        NearDuplicates(tmp_path / "seen" / "near", saved, 0.8)
