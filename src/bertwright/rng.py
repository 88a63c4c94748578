"""Names a stream of random numbers by what it is for, so that any draw can be repeated without the ones before it.

A stream is keyed by words and counters such as ``("mask", seed, step)``. The same key gives the same numbers on every
machine; different keys give independent ones. Nothing about randomness is ever saved in a checkpoint: the key is
rebuilt from the step.

    >>> stream("order", 0, 3).integers(100, size=3).tolist() == stream("order", 0, 3).integers(100, size=3).tolist()
    True
"""

from __future__ import annotations

import hashlib

import numpy as np


def key_of(*parts: str | int) -> int:
    """Return the 64-bit key of a stream named by `parts` (blake2b of their text, so that order and kind count)."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def stream(*parts: str | int) -> np.random.Generator:
    """Return a numpy generator for the stream named by `parts` (Philox, a counter-based generator)."""
    return np.random.Generator(np.random.Philox(key=key_of(*parts)))
