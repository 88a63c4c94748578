"""Turns counts of which tokens stand near which into a table of similar tokens, for objectives that hide words by them.

Tokens are similar that have the same neighbours: the cosine of their vectors (see `model/init/neighbour_vectors.py`).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bertwright.corpus.cooccurrence import NeighbourCounts
from bertwright.model.init.neighbour_vectors import neighbour_vectors
from bertwright.rng import key_of
from bertwright.tokenizer.load import Tokenizer
from bertwright.tokenizer.word_starts import word_rule

SIMILAR = 10
"""Similar tokens of each token: as many as the toolkit that MacBERT takes its words from returns."""
WIDTH = 128
"""Dimensions of the vectors that are compared."""
CHUNK = 1024
"""Tokens compared with all others at a time: 33 MB."""


def similar_words(counts: NeighbourCounts, tokenizer: Tokenizer, *, vocab_size: int) -> Tensor:
    """Return [V, K] int64: the K <= SIMILAR tokens most like each token, best first; -1 for tokens that have none.

    None have those beyond the most frequent 8,192, those that never occur, and special ones. A token that begins a word
    is replaced by such a token alone, and one that goes on with a word by one that does too.
    """
    special = tokenizer.special
    words, vectors = neighbour_vectors(counts, width=WIDTH, generator=torch.Generator().manual_seed(key_of("similar")))
    usable = torch.from_numpy(~np.isin(words, (special.pad, special.unk, special.cls, special.sep, special.mask)))
    opens = torch.from_numpy(np.asarray(word_rule(tokenizer).opens, dtype=bool))
    table = torch.full((vocab_size, SIMILAR), -1)
    for kind in (True, False):
        mine = usable & (opens[words] == kind)
        ids, unit = words[mine], functional.normalize(vectors[mine])
        count = min(SIMILAR, len(ids) - 1)
        for first in range(0, len(ids) if count > 0 else 0, CHUNK):
            part = slice(first, first + CHUNK)
            near = unit[part] @ unit.T
            near.diagonal(first).fill_(-2.0)
            found = ids[near.topk(count).indices]
            table[ids[part], :] = found.repeat(1, -(-SIMILAR // count))[:, :SIMILAR]
    return table
