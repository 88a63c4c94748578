"""Words and shingles: the words of any script, and what a plain reading with a regular expression finds."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus.dedup import hashes as module
from bertwright.corpus.dedup.hashes import WORDS, hash_documents, shingles, valid_documents, word_hashes

SAME_WORDS = [
    ("Hello, WORLD!", "hello world"),
    ("it’s “said” – twice", "it s said twice"),
    ("«oui»\u00a0non", "oui non"),
    ("中文，hello。文", "中 文 hello 文"),
    ("สวัสดี", "ส ว ั ส ด ี"),
    ("Ünïcode naïve", "ünïcode naïve"),
    ("a\n\nb\tc", "a b c"),
]


@pytest.mark.parametrize(("text", "words"), SAME_WORDS)
def test_the_same_words_have_the_same_hashes(text: str, words: str) -> None:
    left, right = word_hashes(pa.array([text]))[0], word_hashes(pa.array([words]))[0]
    assert left.tolist() == right.tolist()
    assert len(left) == len(words.split())


@pytest.mark.parametrize("window", [64, 1 << 18])
def test_shingles_are_those_of_a_plain_reading(monkeypatch: pytest.MonkeyPatch, window: int) -> None:
    monkeypatch.setattr(module, "WINDOW", window)
    draw = np.random.default_rng(0)
    vocabulary = [f"w{i}" for i in range(30)] + ["été", "straße", "x" * 50]
    texts = [" ".join(draw.choice(vocabulary, size=int(n))) for n in draw.integers(0, 60, size=200)]
    array = pa.array(["", *texts, "…"])[1:-1]  # a slice, as batches may be
    hashes, counts = shingles(array)
    plain = []
    for text in texts:
        words = re.findall(r"\w+", text)
        plain.append([tuple(words[i : i + WORDS]) for i in range(max(len(words) - WORDS + 1, min(len(words), 1)))])
    assert counts.tolist() == [len(own) for own in plain]
    meaning: dict[int, tuple[str, ...]] = {}
    for value, shingle in zip(hashes.tolist(), [shingle for own in plain for shingle in own], strict=True):
        assert meaning.setdefault(value, shingle) == shingle
    assert len(meaning) == len(set(meaning.values()))


def test_no_documents() -> None:
    assert [len(part) for part in shingles(pa.array([], pa.string()))] == [0, 0]
    assert shingles(pa.array(["", "..."]))[1].tolist() == [0, 0]


def test_equal_texts_have_equal_hashes_wherever_they_stand() -> None:
    texts = pa.array(["a", "", "你好", "a", "b" * 1000])
    hashes = hash_documents(texts)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 4
    assert hash_documents(texts[2:4]).tolist() == hashes[2:4].tolist()
    assert len(hash_documents(texts[:0])) == 0


def test_the_held_out_share_is_the_share_asked_for() -> None:
    """Over 10^6 hashes the share 0.01 has a standard deviation of 1e-4; four of them are allowed."""
    hashes = hash_documents(pa.array([str(n) for n in range(1_000_000)]))
    assert abs(valid_documents(hashes, 0.01).mean() - 0.01) < 4e-4
    assert valid_documents(hashes[::-1], 0.01).tolist() == valid_documents(hashes, 0.01)[::-1].tolist()
    assert not valid_documents(hashes, 0.0).any()
    assert valid_documents(hashes, 1.0).all()
