"""Exact duplicates, and the held-out split by hash."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from bertwright.corpus.dedup.exact import hash_documents, valid_documents
from bertwright.corpus.dedup.hash_store import HashStore


def test_equal_texts_have_equal_hashes_wherever_they_stand() -> None:
    texts = pa.array(["a", "", "你好", "a", "b" * 1000])
    hashes = hash_documents(texts)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 4
    assert hash_documents(texts[2:4]).tolist() == hashes[2:4].tolist()
    assert len(hash_documents(texts[:0])) == 0


def test_a_document_is_new_once_as_a_plain_set_says(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    seen, known = HashStore(tmp_path / "seen" / "documents", {}, numbered=False), set[int]()
    for _ in range(100):
        hashes = draw.integers(0, 2000, size=int(draw.integers(0, 60))).astype(np.uint64)
        expected = []
        for value in hashes.tolist():
            expected.append(value not in known)
            known.add(value)
        assert seen.add_new(hashes).tolist() == expected
    assert len(seen) == len(known)


def test_the_held_out_share_is_the_share_asked_for() -> None:
    """Over 10^6 hashes the share 0.01 has a standard deviation of 1e-4; four of them are allowed."""
    hashes = hash_documents(pa.array([str(n) for n in range(1_000_000)]))
    assert abs(valid_documents(hashes, 0.01).mean() - 0.01) < 4e-4
    assert valid_documents(hashes[::-1], 0.01).tolist() == valid_documents(hashes, 0.01)[::-1].tolist()
    assert not valid_documents(hashes, 0.0).any()
    assert valid_documents(hashes, 1.0).all()
