"""Turns the weights of a model into those it goes on from with another vocabulary: tokens in both keep their vectors.

A new token gets the mean of the vectors of its text's old tokens; or, as FOCUS does (Dobler and de Melo, 2023, "FOCUS:
Effective Embedding Initialization for Monolingual Specialization of Multilingual Models"), a weighted mean of kept
tokens that are its neighbours. FOCUS finds these by fastText vectors of the new text; here they are those of which
words stand near which in it (neighbour_vectors.py). The output matrix and its bias go the same way.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.sparse import csr_array, vstack
from torch import Tensor

from bertwright.corpus.cooccurrence import NeighbourCounts
from bertwright.model.init.neighbour_vectors import neighbour_vectors
from bertwright.rng import key_of
from bertwright.tokenizer.vocabulary_map import VocabularyMap

VOCABULARY_ROWS = ("embeddings.words.weight", "mlm_head.bias", "output_words.weight")
"""Our names of weights with a row a token; the last is an output matrix that is not tied to the embeddings."""
POSITIONS = "embeddings.positions.weight"
"""Our name of the weights with a row a position."""
WIDTH = 128
"""Numbers of the vectors by which neighbours are found."""
BLOCK = 1024
"""New tokens whose neighbours are looked for at a time: similarities of one take up to 32 KB."""


def move_vocabulary(
    state: Mapping[str, Tensor], mapping: VocabularyMap, *, counts: NeighbourCounts | None = None
) -> dict[str, Tensor]:
    """Return the weights of a model, by our names, with the V rows of a new vocabulary; all others are as they are.

    `state` has the rows of the old one, [V_old or more (padding), ...]. With `counts` of the new text, in the new
    vocabulary, new tokens that are among its counted words start from their neighbours, others from their pieces;
    without, all from their pieces. One of which nothing is known gets the mean of all old tokens.

    >>> moved = move_vocabulary(model.state_dict(), mapping)  # needs a model  # doctest: +SKIP
    """
    weights = piece_weights(mapping)
    if counts is not None:
        weights = _laid_over(weights, *neighbour_weights(mapping, counts))
    return {
        name: moved_rows(tensor, mapping, weights) if name in VOCABULARY_ROWS else tensor
        for name, tensor in state.items()
    }


def move_positions(table: Tensor, drawn: Tensor) -> Tensor:
    """Return position embeddings of the shape of `drawn` that end as those of an old vocabulary do, `table`.

    Both end in the positions of a text, as many in both. Where these are counted from after the id of padding, there
    are rows before them: those nearest to the text's move too, as many as both have, others stay as `drawn`.
    """
    kept = min(len(table), len(drawn))
    return torch.cat([drawn.detach()[: len(drawn) - kept], table.detach()[len(table) - kept :].to(drawn)])


def moved_rows(table: Tensor, mapping: VocabularyMap, weights: csr_array) -> Tensor:
    """Return [V, ...] from rows of the old vocabulary: kept ones as they are, others mixed by weights [V, V_old]."""
    kept = torch.from_numpy(mapping.kept)
    old = table.detach()[: mapping.old_size]
    mixed = torch.from_numpy(weights @ old.double().cpu().numpy()).to(old)
    nothing = torch.from_numpy(np.diff(weights.indptr) == 0)
    mixed[nothing.to(old.device)] = old.double().mean(0).to(old)
    copied = old[kept.clamp(min=0).to(old.device)]
    is_kept = (kept >= 0).to(old.device).view(-1, *[1] * (old.ndim - 1))
    return torch.where(is_kept, copied, mixed)


def piece_weights(mapping: VocabularyMap) -> csr_array:
    """Return [V, V_old]: in the row of each token, equal weights of the old tokens of its text, which add up to one."""
    lengths = mapping.pieces.lengths
    shares = np.repeat(1.0 / np.maximum(lengths, 1), lengths)
    ends = np.concatenate([[0], np.cumsum(lengths)])
    return csr_array((shares, mapping.pieces.values, ends), shape=(len(lengths), mapping.old_size))


def neighbour_weights(mapping: VocabularyMap, counts: NeighbourCounts) -> tuple[np.ndarray, csr_array]:
    """Return the ids [F] of new tokens that have neighbours among the kept, and weights [F, V_old] of these.

    Weights are the sparsemax of the cosines with every kept token: few are above zero, and they add up to one. Both
    kinds of token must be among the counted words of the new text, the 8,192 most frequent.
    """
    generator = torch.Generator().manual_seed(key_of("new vocabulary", 0))
    ids, vectors = neighbour_vectors(counts, width=WIDTH, generator=generator)
    words, directions = ids.numpy(), torch.nn.functional.normalize(vectors, dim=1)
    old = mapping.kept[words]
    kept, fresh = np.flatnonzero(old >= 0), np.flatnonzero(old < 0)
    if not len(kept) or not len(fresh):
        return np.zeros(0, dtype=np.int64), csr_array((0, mapping.old_size))
    among = directions[kept].T
    blocks = [
        csr_array(sparsemax(directions[fresh[start : start + BLOCK]] @ among).numpy())
        for start in range(0, len(fresh), BLOCK)
    ]
    found = csr_array(vstack(blocks))
    columns = old[kept][found.indices]
    return words[fresh], csr_array((found.data, columns, found.indptr), shape=(len(fresh), mapping.old_size))


def sparsemax(scores: Tensor) -> Tensor:
    """Return the point of the simplex nearest to each row of scores [N, K] (Martins and Astudillo, 2016, algorithm 1).

    >>> sparsemax(torch.tensor([[1.0, 0.6, -1.0]]))
    tensor([[0.7000, 0.3000, 0.0000]])
    """
    ordered = scores.sort(dim=-1, descending=True).values
    sums, places = ordered.cumsum(-1), torch.arange(1, scores.shape[-1] + 1)
    support = (1 + places * ordered > sums).sum(-1, keepdim=True)
    threshold = (sums.gather(-1, support - 1) - 1) / support
    return (scores - threshold).clamp(min=0)


def _laid_over(weights: csr_array, ids: np.ndarray, others: csr_array) -> csr_array:
    """Return weights [V, V_old] with those of some rows replaced."""
    rows = np.arange(weights.shape[0])
    rows[ids] = weights.shape[0] + np.arange(len(ids))
    return csr_array(csr_array(vstack([weights, others]))[rows]) if len(ids) else weights
