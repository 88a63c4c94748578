"""Attribution against its axioms, against a second formula, and against captum where that is installed."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from bertwright.inspection.attribution import Score, integrated_gradients, log_odds, occlusion
from bertwright.model.build import build_encoder, named_size
from bertwright.model.encoder import Encoder
from bertwright.model.task_model import FineTuned
from bertwright.types import LabelledBatch

MASK = 4
IDS = torch.tensor([2, 11, 23, 7, 31, 8, 3])
WORDS = [[1], [2, 3], [4], [5]]


@pytest.fixture(scope="module")
def model() -> FineTuned:
    """Return a classifier of four classes whose weights are large enough to curve."""
    torch.manual_seed(0)
    encoder = build_encoder(named_size("tiny", vocab_size=64, layers=2, hidden_size=32, heads=2, intermediate_size=48))
    made = FineTuned(encoder, head_type="row", outputs=4, dropout=0.1).eval()
    for parameter in made.parameters():
        parameter.data.add_(0.15 * torch.randn_like(parameter))
    return made


@pytest.fixture
def score(model: FineTuned) -> Score:
    def of(ids: Tensor) -> Tensor:
        types, mask = torch.zeros_like(ids), torch.ones_like(ids, dtype=torch.bool)
        asked = torch.zeros(len(ids), 1, dtype=torch.int64)
        return log_odds(model(LabelledBatch(ids, types, mask, asked=asked, targets=asked))[:, 0], 2)

    return of


def baseline() -> Tensor:
    masked = IDS.clone()
    masked[1:-1] = MASK
    return masked


def test_log_odds_are_those_of_the_probability() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    p = logits.softmax(-1)[:, 1]
    torch.testing.assert_close(log_odds(logits, 1), torch.log(p / (1 - p)))


def test_occlusion_is_the_difference_of_two_rows_that_differ_in_a_word(score: Score) -> None:
    whole, parts = occlusion(score, IDS, WORDS, mask=MASK)
    with torch.no_grad():
        assert whole == pytest.approx(float(score(IDS[None])), abs=1e-5)
        for word, part in zip(WORDS, parts.tolist(), strict=True):
            without = IDS.clone()
            without[word] = MASK
            assert part == pytest.approx(whole - float(score(without[None])), abs=1e-5)
    assert parts.abs().max() > 0.01


def test_gradients_add_up_to_the_difference_and_are_a_riemann_sum(model: FineTuned, score: Score) -> None:
    """Completeness; and the midpoint rule at 100 points, written with plain embeddings."""
    words = model.encoder.word_embeddings
    found = integrated_gradients(score, words, IDS, baseline())
    with torch.no_grad():
        difference = float(score(IDS[None]) - score(baseline()[None]))
    assert float(found.sum()) == pytest.approx(difference, abs=1e-3)
    assert found[0] == found[-1] == 0
    start, end = words(baseline()).detach(), words(IDS).detach()
    total = torch.zeros(len(IDS))
    for step in range(100):
        leaf = (start + (step + 0.5) / 100 * (end - start))[None].requires_grad_()
        handle = words.register_forward_hook(lambda *_, leaf=leaf: leaf)
        (gradient,) = torch.autograd.grad(score(IDS[None]).sum(), leaf)
        handle.remove()
        total += ((end - start) * gradient[0]).sum(-1) / 100
    torch.testing.assert_close(found, total, atol=2e-4, rtol=1e-3)
    assert found.abs().max() > 0.05


def test_captum_gives_the_same(model: FineTuned, score: Score) -> None:
    attr: Any = pytest.importorskip("captum.attr")
    words = model.encoder.word_embeddings
    theirs = attr.LayerIntegratedGradients(score, words).attribute(
        IDS[None], baselines=baseline()[None], n_steps=50, method="gausslegendre", internal_batch_size=None
    )
    ours = integrated_gradients(score, words, IDS, baseline(), steps=50)
    torch.testing.assert_close(ours, theirs[0].sum(-1), atol=1e-5, rtol=1e-4)
    groups = torch.zeros_like(IDS)
    for number, places in enumerate(WORDS, start=1):
        groups[places] = number
    ablated = attr.FeatureAblation(score).attribute(IDS[None], baselines=MASK, feature_mask=groups[None])[0]
    _, parts = occlusion(score, IDS, WORDS, mask=MASK)
    torch.testing.assert_close(parts, torch.stack([ablated[places[0]] for places in WORDS]).float(), atol=1e-5, rtol=0)


def test_more_steps_come_nearer(model: FineTuned, score: Score) -> None:
    encoder: Encoder = model.encoder
    exact = integrated_gradients(score, encoder.word_embeddings, IDS, baseline(), steps=200)
    errors = [
        float((integrated_gradients(score, encoder.word_embeddings, IDS, baseline(), steps=steps) - exact).abs().max())
        for steps in (1, 4, 16)
    ]
    assert all(later < earlier for earlier, later in pairwise(errors))
