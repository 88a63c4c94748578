"""How far heads look, how alike positions are: against counts by hand."""

from __future__ import annotations

import pytest
import torch

from bertwright.inspection.forward import DISTANCES, REACH, Look, by_distance, similarities


def test_shares_by_distance_are_counted_one_by_one() -> None:
    length = 14
    weights = torch.rand(3, 2, length, length, generator=torch.Generator().manual_seed(0)).softmax(-1)
    special = torch.zeros(length, dtype=torch.bool)
    special[[0, 6, 13]] = True
    found = by_distance(weights, special)
    expected = torch.zeros(3, 2, len(DISTANCES))
    ordinary = [place for place in range(length) if not special[place]]
    for query in ordinary:
        for key in range(length):
            step = key - query
            name = str(step) if abs(step) <= REACH else "after" if step > 0 else "before"
            kind = DISTANCES.index("special" if special[key] else name)
            expected[:, :, kind] += weights[:, :, query, key] / len(ordinary)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(found.sum(-1), torch.ones(3, 2))


def test_a_head_that_looks_one_back_is_seen() -> None:
    weights = torch.diag(torch.ones(7), -1)[None, None]  # each token looks at the one before it
    special = torch.tensor([True, *[False] * 6, True])
    share = dict(zip(DISTANCES, by_distance(weights, special)[0, 0].tolist(), strict=True))
    assert share["-1"] == pytest.approx(5 / 6)
    assert share["special"] == pytest.approx(1 / 6)  # the first word has [CLS] before it


def test_similarities_are_cosines_layer_by_layer() -> None:
    generator = torch.Generator().manual_seed(2)
    hidden = tuple(torch.randn(1, 5, 8, generator=generator) for _ in range(3))
    found = similarities(Look(hidden, ()))
    assert found.shape == (3, 1, 5, 5)
    expected = torch.cosine_similarity(hidden[1][0, 1], hidden[1][0, 4], dim=0)
    torch.testing.assert_close(found[1, 0, 1, 4], expected)
