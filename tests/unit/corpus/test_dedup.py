"""Duplicates: exact, over commits and after a kill, in bounded memory; and the held-out split by hash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from bertwright.corpus import dedup
from bertwright.corpus.dedup import SeenDocuments, hash_documents, held_out
from bertwright.errors import CorpusError


def test_equal_texts_have_equal_hashes_wherever_they_stand() -> None:
    texts = pa.array(["a", "", "你好", "a", "b" * 1000])
    hashes = hash_documents(texts)
    assert hashes.dtype == np.uint64
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 4
    assert hash_documents(texts[2:4]).tolist() == hashes[2:4].tolist()
    assert len(hash_documents(texts[:0])) == 0


def test_a_document_is_new_once_as_a_plain_set_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup, "MOST_PENDING", 50)
    monkeypatch.setattr(dedup, "MERGE_BLOCK", 16)
    draw = np.random.default_rng(0)
    seen, known, committed = SeenDocuments(tmp_path), set[int](), set[int]()
    for number in range(300):
        hashes = draw.integers(0, 4000, size=int(draw.integers(0, 60))).astype(np.uint64)
        expected = []
        for value in hashes.tolist():
            expected.append(value not in known)
            known.add(value)
        assert seen.first_seen(hashes).tolist() == expected
        if number % 7 == 0:
            seen.commit()
            committed = set(known)
        if number % 31 == 0:
            seen, known = SeenDocuments(tmp_path), set(committed)
    assert len(seen) == len(known)
    seen.commit()
    assert len(list(tmp_path.glob("run-*"))) <= 8
    assert sum(file.stat().st_size for file in tmp_path.glob("run-*")) == 8 * len(known)


def test_restoring_forgets_what_was_not_committed(tmp_path: Path) -> None:
    seen = SeenDocuments(tmp_path)
    first, second = np.array([1, 2], np.uint64), np.array([2, 3], np.uint64)
    seen.first_seen(first)
    seen.commit()
    assert seen.first_seen(second).tolist() == [False, True]
    seen.restore()
    assert seen.first_seen(second).tolist() == [False, True]


def test_after_a_kill_the_set_is_that_of_the_last_commit(tmp_path: Path) -> None:
    program = f"""
import numpy as np
from pathlib import Path
from bertwright.corpus import dedup
dedup.MOST_PENDING = 100
seen = dedup.SeenDocuments(Path({str(tmp_path)!r}))
step = 0
while True:
    seen.first_seen(np.arange(step * 70, step * 70 + 70, dtype=np.uint64))
    step += 1
    if step % 10 == 0:
        seen.commit()
        print(step, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    committed = [int(process.stdout.readline()) for _ in range(8)][-1]
    os.kill(process.pid, signal.SIGKILL)
    committed = max([committed, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
    process.wait()
    process.stdout.close()
    found = len(SeenDocuments(tmp_path))
    assert found in (committed * 70, committed * 70 + 700)  # the last commit may be whole before it is told
    assert not SeenDocuments(tmp_path).first_seen(np.arange(found, dtype=np.uint64)).any()
    assert SeenDocuments(tmp_path).first_seen(np.arange(found, found + 9, dtype=np.uint64)).all()


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    seen = SeenDocuments(tmp_path)
    seen.first_seen(np.array([1], np.uint64))
    seen.commit()
    next(tmp_path.glob("run-*")).unlink()
    with pytest.raises(CorpusError, match="delete it and prepare the data again"):
        SeenDocuments(tmp_path)


def test_the_held_out_share_is_the_share_asked_for() -> None:
    """Over 10^6 hashes the share 0.01 has a standard deviation of 1e-4; four of them are allowed."""
    hashes = hash_documents(pa.array([str(n) for n in range(1_000_000)]))
    assert abs(held_out(hashes, 0.01).mean() - 0.01) < 4e-4
    assert held_out(hashes[::-1], 0.01).tolist() == held_out(hashes, 0.01)[::-1].tolist()
    assert not held_out(hashes, 0.0).any()
    assert held_out(hashes, 1.0).all()
