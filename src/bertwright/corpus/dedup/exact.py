"""Turns documents into hashes of their text, by which copies are found and the valid split is chosen."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import xxhash


def hash_documents(texts: pa.StringArray) -> np.ndarray:
    """Return the 64-bit xxh3 hash of each document's UTF-8 bytes, [D] uint64; equal hashes count as equal texts.

    Among a billion different documents the chance of any two meeting in one hash is 3% (n^2 / 2^65).
    """
    buffers = texts.buffers()
    ends = np.frombuffer(buffers[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].tolist()
    data = memoryview(buffers[2] or b"")
    hashes = (xxhash.xxh3_64_intdigest(data[start:end]) for start, end in pairwise(ends))
    return np.fromiter(hashes, dtype=np.uint64, count=len(texts))


def valid_documents(hashes: np.ndarray, fraction: float) -> np.ndarray:
    """Return which documents belong to the valid split, [D] bool: a `fraction` of all, whatever their order."""
    return (hashes >> np.uint64(11)).astype(np.float64) < fraction * 2.0**53
