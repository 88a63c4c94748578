"""Makes what tests of several rooms look at: the syntax trees of the package, and shards of given documents."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bertwright.corpus.shards import DocumentBlock, Shard, Shards, write_shard

PACKAGE = Path(__file__).parents[2] / "src" / "bertwright"


@pytest.fixture(scope="session")
def trees() -> dict[str, ast.Module]:
    """Return the syntax tree of every file, by its path inside the package."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


@pytest.fixture
def shards_of() -> Callable[..., Shards]:
    """Return a function that writes documents, arrays of tokens, to two shards in a folder, in order."""

    def write(folder: Path, documents: list[np.ndarray], *, fingerprint: str = "test") -> Shards:
        folder.mkdir(exist_ok=True)
        shards = []
        for number, part in enumerate((documents[:2], documents[2:])):
            counts = np.array([len(document) for document in part], dtype=np.int64)
            tokens = np.concatenate(part).astype(np.uint16)
            block = DocumentBlock(
                tokens=tokens,
                token_counts=counts,
                sentence_ends=counts.astype(np.uint32),
                sentence_counts=np.ones(len(part), dtype=np.int64),
                word_starts=np.ones(len(tokens), dtype=bool),
            )
            write_shard(folder / f"train-{number:05d}.arrow", block)
            shards.append(Shard.open(folder / f"train-{number:05d}.arrow"))
        return Shards(shards, fingerprint=fingerprint)

    return write
