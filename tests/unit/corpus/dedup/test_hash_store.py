"""Hashes on disk: what is known of them, over saves and after a kill, in bounded memory; damage is told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bertwright.corpus.dedup import hash_store as runs
from bertwright.corpus.dedup.hash_store import HashStore
from bertwright.errors import CorpusError


@pytest.mark.parametrize("numbered", [False, True])
def test_what_is_known_is_what_a_plain_counter_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbered: bool
) -> None:
    monkeypatch.setattr(runs, "MOST_PENDING", 50)
    monkeypatch.setattr(runs, "MERGE_BLOCK", 16)
    draw = np.random.default_rng(0)
    folder = tmp_path / "seen" / "it"
    known, counted = HashStore(folder, {}, numbered=numbered), Counter[int]()
    state, before = dict[str, int](), Counter[int]()
    for step in range(120):
        requested = np.unique(draw.integers(0, 4000, size=int(draw.integers(0, 60))).astype(np.uint64))
        assert known.find(requested).tolist() == [counted[value] for value in requested.tolist()]
        added = requested if numbered else requested[known.find(requested) == 0]
        numbers = draw.integers(1, 9, size=len(added)).astype(np.uint32) if numbered else None
        known.add(added, numbers)
        counted.update(
            dict(zip(added.tolist(), [1] * len(added) if numbers is None else numbers.tolist(), strict=True))
        )
        if step % 7 == 0:
            state, before = known.save(), Counter(counted)
            known.forget_previous()
        if step % 31 == 0:
            known, counted = HashStore(folder, state, numbered=numbered), Counter(before)
    known.save()
    known.forget_previous()
    assert len(list(folder.glob("run-*.u64"))) <= 7
    assert len(known) >= len(counted)
    assert numbered or len(known) == len(counted)


def test_a_state_that_was_not_kept_is_forgotten(tmp_path: Path) -> None:
    known = HashStore(tmp_path / "a" / "b", {}, numbered=False)
    known.add(np.array([1, 2], np.uint64))
    kept = known.save()
    known.forget_previous()
    known.add(np.array([3], np.uint64))
    known.save()  # written, but its names are lost
    again = HashStore(tmp_path / "a" / "b", kept, numbered=False)
    assert again.find(np.array([1, 2, 3], np.uint64)).tolist() == [1, 1, 0]
    assert len(list((tmp_path / "a" / "b").iterdir())) == 1


KILLED = """
import json, sys
import numpy as np
from pathlib import Path
from bertwright.corpus.dedup import hash_store
from bertwright.files import write_json
hash_store.MOST_PENDING = 100
known, step = hash_store.HashStore(Path(sys.argv[1]) / "seen" / "it", {}, numbered=True), 0
while True:
    hashes = np.arange(step * 70, step * 70 + 70, dtype=np.uint64)
    known.add(hashes, (hashes + 1).astype(np.uint32))
    step += 1
    if step % 10 == 0:
        write_json(Path(sys.argv[1]) / "state.json", known.save())
        known.forget_previous()
        print(step, flush=True)
"""


def test_after_a_kill_it_is_what_it_was_when_saved(tmp_path: Path) -> None:
    words = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = [int(process.stdout.readline()) for _ in range(8)][-1]
        os.kill(process.pid, signal.SIGKILL)
        given = max([given, *(int(line) for line in process.stdout.read().split("\n")[:-1])])
    known = HashStore(tmp_path / "seen" / "it", json.loads((tmp_path / "state.json").read_text()), numbered=True)
    assert len(known) in (given * 70, given * 70 + 700)  # the last state may be kept before it is printed
    hashes = np.arange(len(known) + 9, dtype=np.uint64)
    assert known.find(hashes).tolist() == [*range(1, len(known) + 1), *[0] * 9]


@pytest.mark.parametrize("damage", ["missing", "short"])
def test_damage_is_told(tmp_path: Path, damage: str) -> None:
    known = HashStore(tmp_path / "seen" / "it", {}, numbered=True)
    known.add(np.array([1, 2], np.uint64), np.array([1, 2], np.uint32))
    kept = known.save()
    file = next((tmp_path / "seen" / "it").glob("run-*.u32"))
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:3])
    with pytest.raises(CorpusError, match="missing"):
        HashStore(tmp_path / "seen" / "it", kept, numbered=True)


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
