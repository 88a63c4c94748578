"""A model's weights with another vocabulary: kept rows bit for bit, new ones from pieces or neighbours, as by numpy."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from bertwright.corpus.cooccurrence import DISTANCES, DistanceCounts, NeighbourCounts
from bertwright.model.init.neighbour_vectors import neighbour_vectors
from bertwright.model.init.new_vocabulary import WIDTH, move_positions, move_vocabulary, neighbour_weights, sparsemax
from bertwright.rng import key_of, stream
from bertwright.tokenizer.ragged import Ragged
from bertwright.tokenizer.vocabulary_map import VocabularyMap

OLD, NEW = 30, 24
KEPT = np.array([0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 29, *[-1] * 12])
PIECES: list[list[int]] = [[int(i)] for i in KEPT[:12]] + [[5, 6], [7], [], [5, 5, 8], *[[9, 10]] * 8]


def _map() -> VocabularyMap:
    lengths = np.array([len(row) for row in PIECES])
    return VocabularyMap("", OLD, KEPT, Ragged(np.array([i for row in PIECES for i in row]), lengths))


def _state(rows: int = OLD + 2) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    shapes = {
        "embeddings.words.weight": (rows, 8), "output_words.weight": (rows, 8), "mlm_head.bias": (rows,),
        "mlm_head.dense.weight": (8, 8), "embeddings.positions.weight": (rows, 8),
    }  # fmt: skip
    return {name: torch.randn(*shape) for name, shape in shapes.items()}


def _counts(words: np.ndarray) -> NeighbourCounts:
    """Counts of a text drawn at random, in which each word has favourite neighbours."""
    random, side = stream("new vocabulary test", 0), len(words)
    distances = {}
    for distance in DISTANCES:
        table = random.poisson(0.3, (side, side)) + 5 * (random.random((side, side)) < 0.1)
        rows, columns = np.nonzero(table)
        starts = np.searchsorted(rows, np.arange(side + 1))
        distances[distance] = DistanceCounts(starts, columns.astype(np.uint16), table[rows, columns].astype(np.int32))
    return NeighbourCounts(words, np.ones(NEW, dtype=np.int64), distances)


@pytest.mark.parametrize("before", [0, 2, 4])
def test_positions_of_a_text_move_with_the_id_of_padding(before: int) -> None:
    table, drawn = torch.randn(2 + 6, 3), torch.randn(before + 6, 3)
    moved = move_positions(table, drawn)
    assert torch.equal(moved[before:], table[2:])
    assert torch.equal(moved[: max(0, before - 2)], drawn[: max(0, before - 2)])
    assert before == 0 or torch.equal(moved[before - 1], table[1])


def test_mean_of_old_pieces_and_kept_rows_as_they_were() -> None:
    state = _state()
    moved = move_vocabulary(state, _map())
    for name in ("embeddings.words.weight", "output_words.weight", "mlm_head.bias"):
        old, new = state[name], moved[name]
        assert new.shape == (NEW, *old.shape[1:])
        assert torch.equal(new[:12], old[torch.from_numpy(KEPT[:12])])
        assert torch.allclose(new[12], (old[5] + old[6]) / 2)
        assert torch.equal(new[13], old[7])
        assert torch.allclose(new[14], old[:OLD].mean(0))
        assert torch.allclose(new[15], (2 * old[5] + old[8]) / 3)
    for name in ("mlm_head.dense.weight", "embeddings.positions.weight"):
        assert moved[name] is state[name]


def test_neighbours_are_weighted_as_numpy_weighs_them() -> None:
    """FOCUS by its definition: cosines of auxiliary vectors, their sparsemax, a weighted sum of old rows."""
    state, mapping = _state(), _map()
    words = np.array([5, 6, 7, 8, 9, 10, 11, 12, 14, 20])  # seven kept, three new; token 13 is not counted
    counts = _counts(words)
    generator = torch.Generator().manual_seed(key_of("new vocabulary", 0))
    vectors = neighbour_vectors(counts, width=WIDTH, generator=generator)[1].double().numpy()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    moved = move_vocabulary(state, mapping, counts=counts)
    by_pieces = move_vocabulary(state, mapping)
    for name in ("embeddings.words.weight", "mlm_head.bias"):
        old = state[name].double().numpy()
        for place in (7, 8, 9):
            weights = _nearest_on_simplex(vectors[:7] @ vectors[place])
            expected = np.tensordot(weights, old[KEPT[words[:7]]], axes=1)
            assert np.allclose(moved[name][words[place]].numpy(), expected, atol=1e-3)
        assert torch.equal(moved[name][13], by_pieces[name][13])
        assert torch.equal(moved[name][:12], by_pieces[name][:12])
        assert not torch.allclose(moved[name][14], by_pieces[name][14])


def _nearest_on_simplex(scores: np.ndarray) -> np.ndarray:
    found = minimize(
        lambda weights: ((weights - scores) ** 2).sum(), np.full(len(scores), 1 / len(scores)), method="SLSQP",
        bounds=[(0, 1)] * len(scores), constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
        options={"ftol": 1e-14, "maxiter": 500},
    )  # fmt: skip
    weights: np.ndarray = found.x
    return weights


def test_sparsemax_is_the_nearest_point_of_the_simplex() -> None:
    scores = torch.from_numpy(stream("sparsemax", 0).normal(size=(20, 9))).float()
    found = sparsemax(scores).double().numpy()
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    assert (found == 0).any()
    for row, weights in zip(scores.double().numpy(), found, strict=True):
        assert np.allclose(weights, _nearest_on_simplex(row), atol=1e-5)


def test_no_neighbours_where_nothing_is_kept_or_new_among_counted_words() -> None:
    mapping = _map()
    for words in (np.array([5, 6, 7]), np.array([12, 13])):
        ids, weights = neighbour_weights(mapping, _counts(words))
        assert (len(ids), weights.shape) == (0, (0, OLD))
        plain = move_vocabulary(_state(), mapping)
        for name, tensor in move_vocabulary(_state(), mapping, counts=_counts(words)).items():
            assert torch.equal(tensor, plain[name])
