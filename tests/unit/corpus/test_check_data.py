"""Checksums of a corpus are compared by all processes of a run, each its share, and damage ends all of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bertwright.corpus.manifest import read_manifest
from bertwright.corpus.shards import check_shards
from bertwright.errors import DataError
from bertwright.train.parallel.group import Group
from bertwright.verbs.calls.run_folder import open_checked
from bertwright.verbs.prepare import prepare

SIZE = 3


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DATA folder of several shards."""
    monkeypatch.setattr("bertwright.corpus.readers.documents.BATCH_BYTES", 2000)
    texts = [" ".join(f"Town {n} has {line} rivers. It rains there." for line in range(40)) for n in range(40)]
    (tmp_path / "towns.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts), encoding="utf-8")
    prepare([tmp_path / "towns.jsonl"], tmp_path / "data", vocab_size=512, shard_text=4000)
    return tmp_path / "data"


@dataclass
class Post:
    """What the processes of a test, threads in truth, leave for one another."""

    barrier: threading.Barrier = field(default_factory=lambda: threading.Barrier(SIZE))
    left: dict[int, bytes] = field(default_factory=dict)


class Threads(Group):
    """Processes of a run that are threads of this one."""

    post = Post()

    def gathered(self, data: bytes, channel: object = None) -> list[bytes]:
        """Return the bytes of every thread in order."""
        self.post.left[self.rank] = data
        self.post.barrier.wait(timeout=60)
        return [self.post.left[rank] for rank in range(SIZE)]


def shards(data: Path) -> Iterator[tuple[Path, int]]:
    for split in read_manifest(data)["splits"].values():
        for entry in split["shards"]:
            yield data / entry["file"], entry["bytes"]


def test_shares_are_all_of_it_and_alike(data: Path) -> None:
    whole = [size for _, size in shards(data)]
    assert len(whole) > 2 * SIZE
    parts = [check_shards(data, rank=rank, processes=SIZE) for rank in range(SIZE)]
    assert sum(parts) == check_shards(data) == sum(whole)
    assert max(parts) - min(parts) <= max(whole)


def test_damage_in_one_share_ends_all_processes_with_one_sentence(data: Path) -> None:
    damaged, size = next(shards(data))
    os.truncate(damaged, size - 8)
    errors: dict[int, DataError] = {}

    def work(rank: int) -> None:
        try:
            open_checked([data], (), Threads(rank, SIZE))
        except DataError as error:
            errors[rank] = error

    workers = [threading.Thread(target=work, args=(rank,)) for rank in range(SIZE)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert {str(error) for error in errors.values()} == {
        f"{damaged} is missing or not as it was written (its SHA-256 is another); restore it from a copy, or "
        "prepare the data again"
    }
    assert [errors[rank].quiet for rank in range(SIZE)] == [False, True, True]
