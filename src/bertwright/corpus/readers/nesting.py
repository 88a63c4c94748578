"""Turns JSON into how deeply its values nest, before a parser that calls itself for each level runs out of stack.

pyarrow ends the process (signal 11) where it infers the types of a JSON file whose values nest 20,000 deep, which takes
40 kB; where it is told the types, it does not.
"""

from __future__ import annotations

import numpy as np

from bertwright.corpus.readers.remote import TextFile
from bertwright.errors import CorpusError

DEEPEST = 100
"""Levels of the deepest values taken; labelled files have two or three."""
OTHERS = bytes(sorted(set(range(256)) - set(b'[]{}"')))
PIECE = 1 << 20
"""Brackets and quotation marks looked at together: 16 MB of sums."""


def refuse_nested(data: bytes, path: TextFile) -> None:
    """Raise CorpusError where the JSON of a file nests deeper than DEEPEST."""
    if depth_of(data) > DEEPEST:
        raise CorpusError(f"{path} has values nested more than {DEEPEST} deep; give one flat JSON object a line")


def depth_of(data: bytes) -> int:
    """Return the levels of the deepest value of JSON, brackets within texts left out; exact up to its first fault.

    >>> depth_of(b'{"a": [1, ["[[["]]}')
    3
    """
    marks = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, OTHERS)
    codes = np.frombuffer(marks, dtype=np.uint8)
    count = quotes = deepest = 0
    for start in range(0, len(codes), PIECE):
        piece = codes[start : start + PIECE]
        before = quotes + np.cumsum(piece == ord('"'))
        steps = np.where((piece | 0x20) == ord("{"), 1, -1)  # "[" and "{" differ in that bit alone
        steps[(piece == ord('"')) | (before % 2 == 1)] = 0
        counts = count + np.cumsum(steps)
        count, quotes, deepest = int(counts[-1]), int(before[-1]) % 2, max(deepest, int(counts.max()))
    return deepest
